"""A gateway in this process with its operator and a data owner, and the steps that most jobs begin with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic

from chiron import AsyncClient, OwnerStore
from chiron.api.gateway import Gateway
from chiron.api.keys import TenantRole
from chiron.api.server import running_gateway
from chiron.api.settings import Settings
from chiron.api.software_tee.tee import SoftwareTee
from chiron.client.datasets import ArraySource, Encrypted, EncryptOptions, encrypt
from chiron.client.granting import new_terms
from chiron.client.keyholder import Keyholder
from chiron.wire.attestation import TcbStatus
from chiron.wire.contract import CapabilityGrants, Task
from chiron.wire.grants import Restarts
from chiron.wire.jobs import Job, JobRequest
from chiron.wire.public_api import BuilderInfo
from tests.support.datasets import Arrays
from tests.support.launcher import BackendT, SimulatedLauncher
from tests.support.specs import builder_manifest
from tests.support.tee import policy_for

UP_TO_DATE = frozenset({TcbStatus.UP_TO_DATE})


@dataclass
class Deployment(Generic[BackendT]):
    """Everybody who takes part in a job."""

    launcher: SimulatedLauncher[BackendT]
    owner: AsyncClient
    operator: AsyncClient
    gateway: Gateway
    state: Path

    def objects(self, job: Job, name: str = "*") -> list[Path]:
        """The files in the operator's storage that hold an object of the job."""
        return sorted((self.state / "blobs" / "jobs" / job.spec.job).glob(f"{name}/*"))


@asynccontextmanager
async def deployed(
    directory: Path,
    settings: Settings,
    launcher: SimulatedLauncher[BackendT],
    tee: SoftwareTee,
    accepted_tcb: frozenset[TcbStatus] = UP_TO_DATE,
) -> AsyncIterator[Deployment[BackendT]]:
    """A fresh gateway. What the owner keeps is in `directory`, whose path must be short."""
    policy = policy_for(tee).model_copy(update={"accepted_tcb": accepted_tcb})
    async with running_gateway(settings, launcher) as running:
        create = running.gateway.keys.create
        owners_key = await create("owner", TenantRole.OWNER)
        operators_key = await create("op", TenantRole.OPERATOR)
        store, others_store = OwnerStore(directory / "owner"), OwnerStore(directory / "operator")
        async with (
            AsyncClient(running.url, owners_key, policy=policy, store=store) as owner,
            AsyncClient(running.url, operators_key, store=others_store) as operator,
        ):
            yield Deployment(launcher, owner, operator, running.gateway, settings.state_dir)


@asynccontextmanager
async def keyholding(owner: AsyncClient) -> AsyncIterator[None]:
    """The owner's side, while her jobs' enclaves are started again: it never tires."""
    keyholder, stopping = Keyholder(owner, most_an_hour=10_000), asyncio.Event()
    running = asyncio.create_task(keyholder.run(stopping, look_every_s=0.05))
    try:
        yield
    finally:
        stopping.set()
        await running


async def publish(operator: AsyncClient, component: bytes, **manifest: Any) -> BuilderInfo:
    """A builder for the digits; `manifest` changes its manifest."""
    return await operator.upload_builder(component, builder_manifest(**manifest).model_dump_json().encode())


async def upload(owner: AsyncClient, arrays: Arrays, directory: Path) -> Encrypted:
    """A classification of these arrays, encrypted into `directory` and uploaded."""
    source = ArraySource(*arrays, task=Task.CLASSIFICATION)
    options = EncryptOptions(chunk_bytes=4096)
    encrypted = await asyncio.to_thread(encrypt, source, directory, owner.store, options)
    await owner.upload_dataset(encrypted.bundle)
    return encrypted


async def create_and_grant(
    owner: AsyncClient, builder: str, dataset: str, *, restarts: Restarts = Restarts.OWNER, **request: Any
) -> Job:
    """A job that has its grant: everything that its builder asks for. Its terms say so if it is paced."""
    asked = {"dataset_id": dataset, "builder_sha256": builder, "terms": {}} | request
    asked["terms"] = {"unpaced": not asked["terms"].get("period_s")} | asked["terms"]
    job = await owner.create_job(JobRequest.model_validate(asked))
    verified = await owner.verify_job(job)
    info = await owner.builder(builder)
    capabilities = CapabilityGrants(granted=frozenset(info.capabilities))
    terms = new_terms(datetime.now(UTC), capabilities=capabilities, restarts=restarts)
    await owner.send_grant(verified, terms=terms)
    return job
