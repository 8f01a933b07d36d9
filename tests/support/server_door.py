"""A real parameter-server door on loopback: enrolment over TLS 1.3, evidence from a real quoting service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.runtime.attestation.platform import BOOT_NONCE, Platform, attest
from chiron.runtime.channels.enrolment import Registrar, Ticket, enrolment_routes
from chiron.runtime.channels.job_ca import SERVER_NAME, JobCa
from chiron.runtime.channels.peers import narrowed
from chiron.runtime.channels.tls import named_url, server_context
from chiron.runtime.roles.served_exchange import listening
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES
from chiron.wire.attestation import AttestationPolicy, Claims, Role
from chiron.wire.contract import CapabilityGrants
from chiron.wire.enclave_api import Ready
from chiron.wire.encoding import sha256_hex
from chiron.wire.grants import PredictionPolicy
from chiron.wire.jobs import JobSpec
from chiron.wire.launch import GatewayChannel, LaunchSpec
from chiron.wire.p256 import generate_key
from tests.support.specs import JOB, job_spec, launch_spec
from tests.support.tee import IMAGE, QuotingServices, policy_for

DATASET_KEY = b"\x07" * 32
GRANT_NAME = b"\x09" * 32
SHARDS = 3


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
        spec = job_spec(job=job, exchange={"shards": SHARDS})
        return launch_spec(spec, role, GatewayChannel(token="t"), index=index)


def policy(quoting: QuotingServices, identity: EnclaveIdentity = IMAGE) -> AttestationPolicy:
    return policy_for(quoting.tee, identity.measurement)


@asynccontextmanager
async def open_door(
    quoting: QuotingServices,
    *,
    image: EnclaveIdentity = IMAGE,
    grant_name: bytes = GRANT_NAME,
    clock: Callable[[], datetime] | None = None,
    **changes: Any,
) -> AsyncIterator[Door]:
    """A door whose owner's policy is `policy` with these changes."""
    spec = job_spec(exchange={"shards": SHARDS})
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
    owners = policy(quoting, image).model_copy(update=changes)
    registrar = Registrar(spec, ca, narrowed(owners, own), clock, grant_name)
    ticket = Ticket(
        spec=spec,
        dataset_key=DATASET_KEY,
        capabilities=CapabilityGrants(),
        prediction=PredictionPolicy(),
        owner_public_key=bytes(PUBLIC_KEY_BYTES),
        owner_signing_key=bytes(32),
        attestation=owners,
        share=bytes(32),
    )
    ended = asyncio.Event()

    async def who(request: web.Request) -> web.Response:
        return web.Response(text=str(registrar.identify(request)))

    routes = [*enrolment_routes(registrar, ticket, ended), web.get("/who", who)]
    launch = launch_spec(spec, Role.PARAMETER_SERVER, GatewayChannel(token="t"))
    key = generate_key()
    context = server_context(key, ca.issue_server(key.public_key(), SERVER_NAME), ca.certificate)
    async with listening(routes, launch, context) as address:
        ready = Ready(address=address, evidence=own, tls_ca=ca.certificate_der)
        yield Door(spec, ca, registrar, ready, quoting, platform, ended)
