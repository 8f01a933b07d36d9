"""A real parameter-server door on loopback: enrolment over TLS 1.3, evidence from a real quoting service."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.api.software_tee.service import serve
from chiron.api.software_tee.tee import SoftwareTee
from chiron.runtime.attestation.platform import BOOT_NONCE, Platform, attest
from chiron.runtime.attestation.software import SoftwarePlatform
from chiron.runtime.channels.enrolment import Registrar, Ticket, enrolment_routes
from chiron.runtime.channels.job_ca import SERVER_NAME, JobCa
from chiron.runtime.channels.peers import narrowed
from chiron.runtime.channels.tls import named_url, server_context
from chiron.runtime.errors import EnclaveError
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES
from chiron.wire.attestation import AttestationPolicy, Claims, Role
from chiron.wire.contract import CapabilityGrants, Envelope, InputType, Task
from chiron.wire.datasets import DatasetManifest
from chiron.wire.enclave_api import Ready
from chiron.wire.encoding import sha256_hex
from chiron.wire.exchange import ExchangeSpec
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import JobSpec
from chiron.wire.launch import GatewayChannel, LaunchSpec, SoftwarePlatformSpec
from chiron.wire.problems import PROBLEM_CONTENT_TYPE, Problem

JOB = "a" * 32
OTHER_JOB = "f" * 32
IMAGE = EnclaveIdentity(b"\x42" * 32)
OTHER_IMAGE = EnclaveIdentity(b"\x43" * 32)
DATASET_KEY = b"\x07" * 32
GRANT_NAME = b"\x09" * 32
SHARDS = 3


def job_spec(job: str = JOB, *, trainers: int = 2, shards: int = 1, dataset_id: str = "d" * 32) -> JobSpec:
    manifest = DatasetManifest(
        dataset_id=dataset_id,
        task=Task.CLASSIFICATION,
        input_shape=(2, 3),
        input_dtype=InputType.FLOAT32,
        classes=5,
        examples=10,
        chunk_examples=10,
        chunk_ciphertext_bytes=1000,
        chunk_sha256=("0" * 64,),
    )
    return JobSpec(
        job=job,
        dataset=manifest,
        builder_sha256="b" * 64,
        envelope=Envelope(max_parameters=10),
        exchange=ExchangeSpec(parameters=10, trainers=trainers, exchanges=3, shards=shards),
        seed=1,
    )


class QuotingServices:
    """Real quoting services in a loop of their own: enclaves ask them with blocking sockets."""

    def __init__(self, directory: Path) -> None:
        self.tee = SoftwareTee.open(directory / "tee", datetime.now(UTC))
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._sockets: dict[EnclaveIdentity, Path] = {}

    def platform(self, identity: EnclaveIdentity = IMAGE) -> SoftwarePlatform:
        if identity not in self._sockets:
            path = self._directory / f"{len(self._sockets)}.sock"
            asyncio.run_coroutine_threadsafe(serve(self.tee, path, identity), self._loop).result()
            self._sockets[identity] = path
        return SoftwarePlatform(str(self._sockets[identity]))

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


@pytest.fixture(scope="session")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuotingServices]:
    services = QuotingServices(tmp_path_factory.mktemp("q"))
    yield services
    services.close()


@dataclass
class Door:
    """A running parameter server's door, and what an honest trainer needs to come through it."""

    spec: JobSpec
    ca: JobCa
    registrar: Registrar
    ready: Ready
    quoting: QuotingServices
    platform: Platform
    ended: asyncio.Event

    @property
    def address(self) -> str:
        assert self.ready.address is not None
        return self.ready.address

    @property
    def url(self) -> str:
        return named_url(SERVER_NAME, self.address)

    def launch(self, *, job: str = JOB, index: int = 0, role: Role = Role.TRAINER) -> LaunchSpec:
        return LaunchSpec(
            role=role,
            job=job,
            index=index,
            gateway=GatewayChannel(token="t"),
            platform=SoftwarePlatformSpec(socket="unused"),
            spec=job_spec(job, shards=SHARDS),
        )


def policy(quoting: QuotingServices, identity: EnclaveIdentity = IMAGE) -> AttestationPolicy:
    return AttestationPolicy(
        software_root=quoting.tee.root_der, measurements=frozenset({identity.measurement.hex()})
    )


@asynccontextmanager
async def open_door(
    quoting: QuotingServices, *, image: EnclaveIdentity = IMAGE, grant_name: bytes = GRANT_NAME
) -> AsyncIterator[Door]:
    spec = job_spec(shards=SHARDS)
    platform = quoting.platform(image)
    ca = JobCa(spec.job, datetime.now(UTC))
    claims = Claims(
        role=Role.PARAMETER_SERVER,
        job=spec.job,
        hpke_public_key=bytes(PUBLIC_KEY_BYTES),
        tls_ca_sha256=sha256_hex(ca.certificate_der),
        nonce=BOOT_NONCE,
    )
    own = attest(platform, claims)
    registrar = Registrar(spec, ca, narrowed(policy(quoting, image), own), grant_name=grant_name)
    ticket = Ticket(
        spec=spec,
        dataset_key=DATASET_KEY,
        capabilities=CapabilityGrants(),
        prediction=PredictionPolicy(),
        owner_public_key=bytes(PUBLIC_KEY_BYTES),
        owner_signing_key=bytes(32),
    )
    ended = asyncio.Event()
    runner = await _serve(registrar, ticket, ca, ended)
    host, port = runner.addresses[0][:2]
    ready = Ready(address=f"{host}:{port}", evidence=own, tls_ca=ca.certificate_der)
    try:
        yield Door(spec, ca, registrar, ready, quoting, platform, ended)
    finally:
        await runner.cleanup()


async def _serve(registrar: Registrar, ticket: Ticket, ca: JobCa, ended: asyncio.Event) -> web.AppRunner:
    @web.middleware
    async def problems(request: web.Request, handler: object) -> web.StreamResponse:
        try:
            return await handler(request)  # type: ignore[operator,no-any-return]
        except EnclaveError as error:
            problem = Problem(title="refused", status=403, code=error.code)
            return web.Response(
                status=403, body=problem.model_dump_json().encode(), content_type=PROBLEM_CONTENT_TYPE
            )

    async def who(request: web.Request) -> web.Response:
        return web.Response(text=str(registrar.identify(request)))

    app = web.Application(client_max_size=2**20, middlewares=[problems])
    app.add_routes(enrolment_routes(registrar, ticket, ended))
    app.add_routes([web.get("/who", who)])
    key = ec.generate_private_key(ec.SECP256R1())
    context = server_context(key, ca.issue_server(key.public_key(), SERVER_NAME), ca.certificate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    return runner


@pytest.fixture
async def door(quoting: QuotingServices) -> AsyncIterator[Door]:
    async with open_door(quoting) as opened:
        yield opened
