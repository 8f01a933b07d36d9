"""An owner asks a predictor at its own door: the real role, a real model, RA-TLS, and no gateway."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import onnx
import pytest
from aiohttp import web
from onnx import TensorProto, helper, numpy_helper

from chiron import AsyncClient, OwnerStore, attested_connector
from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.client.errors import EvidenceRejected, GatewayUnreachable
from chiron.client.store import JobRecord
from chiron.runtime.roles import predictor
from chiron.runtime.roles.sealed_model import ModelHeader, seal_model
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import Role
from chiron.wire.grants import PredictionPolicy
from chiron.wire.labels import MODEL
from chiron.wire.launch import GatewayChannel
from tests.channels.conftest import policy
from tests.support.specs import job_spec, launch_spec
from tests.support.tee import IMAGE, OTHER_IMAGE, QuotingServices

SPEC = job_spec()
WEIGHT = np.arange(30, dtype=np.float32).reshape(6, 5)


def linear_model() -> bytes:
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


@dataclass
class Door:
    """A running predictor, and its owner."""

    address: str
    store: OwnerStore
    quoting: QuotingServices

    def client(self, identity: EnclaveIdentity = IMAGE) -> AsyncClient:
        """Its gateway does not exist: nothing may need it."""
        return AsyncClient(
            "http://127.0.0.1:9", "key", policy=policy(self.quoting, identity), store=self.store
        )


async def _gateway(path: Path, sealed: bytes) -> tuple[web.AppRunner, asyncio.Event]:
    """The enclave-facing paths that a predictor needs; the mailbox stays empty."""
    ready = asyncio.Event()

    async def model(_: web.Request) -> web.Response:
        return web.Response(body=sealed)

    async def announce(_: web.Request) -> web.Response:
        ready.set()
        return web.Response(status=204)

    async def mailbox(_: web.Request) -> web.Response:
        await asyncio.sleep(20)
        return web.Response(status=204)

    app = web.Application()
    app.add_routes(
        [
            web.get("/enclave/v1/objects/model", model),
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


@pytest.fixture
async def door(quoting: QuotingServices, tmp_path: Path) -> AsyncIterator[Door]:
    store = OwnerStore(tmp_path / "home")
    record = JobRecord(spec=SPEC, owner_key=PrivateKey.generate().private_bytes)
    store.save_job(record)
    platform = quoting.platform(IMAGE)
    header = ModelHeader(
        job=SPEC.job,
        spec_digest=SPEC.digest(),
        prediction=PredictionPolicy(decimals=3),
        owner_signing_key=record.signing_public_key,
        usable=True,
    )
    sealed = await asyncio.to_thread(seal_model, SPEC, header, linear_model(), Sealer(platform, MODEL))
    gateway, ready = await _gateway(tmp_path / "g.sock", sealed)
    channel = GatewayChannel(socket=str(tmp_path / "g.sock"), token="t")
    launch = launch_spec(SPEC, Role.PREDICTOR, channel, listen_port=_free_port())
    role = asyncio.create_task(predictor.run(launch, platform))
    try:
        await asyncio.wait_for(ready.wait(), 60)
        yield Door(f"127.0.0.1:{launch.listen_port}", store, quoting)
    finally:
        role.cancel()
        await asyncio.gather(role, return_exceptions=True)
        await gateway.cleanup()


async def test_owner_is_answered_directly(door: Door) -> None:
    x = np.random.default_rng(1).normal(size=(70, 2, 3)).astype(np.float32)
    async with door.client() as client, client.direct_predictor(SPEC.job, door.address) as session:
        predictions = await session.predict(x)
    best_first = -np.sort(-(x.reshape(70, 6) @ WEIGHT), axis=1)
    assert np.allclose(predictions.scores, best_first, atol=2e-3)
    assert session.verified.claims.role is Role.PREDICTOR


async def test_another_measurement_is_told_nothing(door: Door) -> None:
    async with door.client(OTHER_IMAGE) as client:
        with pytest.raises(GatewayUnreachable):
            async with client.direct_predictor(SPEC.job, door.address):
                pytest.fail("it spoke")


async def test_predictor_of_another_owners_model_is_refused(door: Door, tmp_path: Path) -> None:
    """The host starts the same code on a model that it made itself, for the same job."""
    other = OwnerStore(tmp_path / "another-home")
    other.save_job(JobRecord(spec=SPEC, owner_key=PrivateKey.generate().private_bytes))
    door.store = other
    async with door.client() as client:
        with pytest.raises(EvidenceRejected) as refused:
            async with client.direct_predictor(SPEC.job, door.address):
                pytest.fail("it was accepted")
    assert refused.value.code == "evidence-key-binding"
    assert "another owner" in str(refused.value)


async def test_gateways_api_key_does_not_go_to_the_enclave(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[aiohttp.ClientSession] = []
    make = aiohttp.ClientSession.__init__

    def noting(session: aiohttp.ClientSession, **options: Any) -> None:
        make(session, **options)
        opened.append(session)

    async with door.client() as client:
        monkeypatch.setattr(aiohttp.ClientSession, "__init__", noting)
        async with client.direct_predictor(SPEC.job, door.address):
            assert opened
            assert all("Authorization" not in session.headers for session in opened)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("evidence", "{}", "request-malformed"),
        ("evidence", '{"role": "trainer"}', "request-malformed"),
        ("queries", "garbage", "request-malformed"),
        ("queries", '{"sealed": "AAAA"}', "query-unreadable"),
    ],
)
async def test_malformed_requests_get_a_clear_problem(door: Door, path: str, body: str, code: str) -> None:
    connector = attested_connector(policy(door.quoting), Role.PREDICTOR, SPEC.job)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"https://{door.address}/v1/jobs/{SPEC.job}/{path}", data=body) as response,
    ):
        assert response.status in (400, 409)
        assert (await response.json(content_type=None))["code"] == code
