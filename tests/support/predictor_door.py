"""A predictor at its own door: the real role and a real model, with a double for the gateway's storage."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from aiohttp import web
from onnx import TensorProto, helper, numpy_helper

from chiron import AsyncClient, OwnerStore
from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.client.ledger import Ledgers
from chiron.client.store import JobRecord
from chiron.runtime.roles import predictor
from chiron.runtime.roles.sealed_model import ModelHeader, seal_model
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import Role
from chiron.wire.grants import PredictionPolicy
from chiron.wire.labels import MODEL
from chiron.wire.launch import GatewayChannel
from chiron.wire.machines import MachineKey
from tests.support.specs import job_spec, launch_spec
from tests.support.tee import IMAGE, QuotingServices, policy_for

SPEC = job_spec()
WEIGHT = np.arange(30, dtype=np.float32).reshape(6, 5)
SHARE = b"\x5a" * 32
NO_GATEWAY = "http://127.0.0.1:9"


@dataclass
class Storage:
    """The operator's storage. It can hold writes back."""

    objects: dict[str, bytes]
    stored: list[str] = field(default_factory=list)
    """Names, in the order in which their writes ended."""
    delays_s: list[float] = field(default_factory=list)
    """How long each of the next writes takes."""

    async def get(self, request: web.Request) -> web.Response:
        content = self.objects.get(request.match_info["name"])
        if content is None:
            return web.json_response({"code": "object-unknown", "title": "", "status": 404}, status=404)
        return web.Response(body=content)

    async def put(self, request: web.Request) -> web.Response:
        name, content = request.match_info["name"], await request.read()
        if self.delays_s:
            await asyncio.sleep(self.delays_s.pop(0))
        self.objects[name] = content
        self.stored.append(name)
        return web.Response(status=204)


@dataclass
class Door:
    """A running predictor, its owner, and what its host keeps."""

    address: str
    store: OwnerStore
    quoting: QuotingServices
    storage: Storage

    def client(self, identity: EnclaveIdentity = IMAGE) -> AsyncClient:
        """The owner's client. Its gateway does not exist: nothing may need it."""
        policy = policy_for(self.quoting.tee, identity.measurement)
        return AsyncClient(NO_GATEWAY, "key", policy=policy, store=self.store)


@asynccontextmanager
async def predictor_door(
    quoting: QuotingServices,
    directory: Path,
    prediction: PredictionPolicy,
    machines: Sequence[MachineKey] = (),
) -> AsyncIterator[Door]:
    """A predictor of a linear model, kept for `machines` too; its owner's store is in `directory`."""
    store = OwnerStore(directory / "home")
    record = JobRecord(spec=SPEC, owner_key=PrivateKey.generate().private_bytes, share=SHARE)
    store.save_job(record)
    header = ModelHeader(
        job=SPEC.job,
        spec_digest=SPEC.digest(),
        prediction=prediction,
        owner_signing_key=record.signing_public_key,
        usable=True,
    )
    Ledgers(store).begin(SPEC.job)
    Ledgers(store).budget(SPEC.job, prediction.query_budget)
    sealer = Sealer(quoting.platform(IMAGE), MODEL, record.share, machines=machines)
    sealed = await asyncio.to_thread(seal_model, SPEC, header, linear_model(), sealer)
    async with _running(quoting, directory / "g.sock", store, Storage({"model": sealed})) as door:
        yield door


def started_again(before: Door, directory: Path) -> AbstractAsyncContextManager[Door]:
    """Another predictor, on what the host kept of the one before."""
    return _running(before.quoting, directory / "again.sock", before.store, before.storage)


def elsewhere(before: Door, quoting: QuotingServices, directory: Path) -> AbstractAsyncContextManager[Door]:
    """A predictor on another machine, with a copy of what the host keeps of the one before."""
    copied = Storage(dict(before.storage.objects))
    return _running(quoting, directory / "elsewhere.sock", before.store, copied)


@asynccontextmanager
async def _running(
    quoting: QuotingServices, path: Path, store: OwnerStore, storage: Storage
) -> AsyncIterator[Door]:
    gateway, ready = await _gateway(path, storage)
    channel = GatewayChannel(socket=str(path), token="t")
    launch = launch_spec(SPEC, Role.PREDICTOR, channel, listen_port=_free_port())
    role = asyncio.create_task(predictor.run(launch, quoting.platform(IMAGE)))
    try:
        await asyncio.wait_for(ready.wait(), 60)
        yield Door(f"127.0.0.1:{launch.listen_port}", store, quoting, storage)
    finally:
        role.cancel()
        await asyncio.gather(role, return_exceptions=True)
        await gateway.cleanup()


def linear_model() -> bytes:
    """`input` [N, 2, 3] times `WEIGHT`, as ONNX."""
    nodes = [
        helper.make_node("Flatten", ["input"], ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weight"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 2, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


async def _gateway(path: Path, storage: Storage) -> tuple[web.AppRunner, asyncio.Event]:
    """The enclave-facing paths that a predictor needs. The mailbox stays empty."""
    ready = asyncio.Event()

    async def announce(_: web.Request) -> web.Response:
        ready.set()
        return web.Response(status=204)

    async def mailbox(_: web.Request) -> web.Response:
        await asyncio.sleep(20)
        return web.Response(status=204)

    app = web.Application()
    app.add_routes(
        [
            web.get("/enclave/v1/objects/{name}", storage.get),
            web.put("/enclave/v1/objects/{name}", storage.put),
            web.post("/enclave/v1/ready", announce),
            web.get("/enclave/v1/mailbox", mailbox),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    return runner, ready


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
