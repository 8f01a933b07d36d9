"""A gateway as an owner meets it, with scripted enclaves behind it: for tests of the client and the kit."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chiron import AsyncClient, OwnerStore
from chiron.api.server import RunningGateway, running_gateway
from chiron.api.settings import Settings
from chiron.api.software_tee.tee import SoftwareTee
from chiron.api.storage.database import Database
from chiron.api.storage.tables import BuilderRow
from chiron.client.datasets import Encrypted, EncryptOptions, encrypt, open_source
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.encoding import canonical_json
from chiron.wire.jobs import JobRequest
from tests.support.attested_scripts import AttestedScripts, Faults
from tests.support.launcher import SimulatedLauncher
from tests.support.scripts import Scripts, scripted
from tests.support.specs import builder_manifest
from tests.support.tee import open_tee, policy_for

BUILDER = "b" * 64


@dataclass
class World:
    """Everything that a test of the client touches."""

    running: RunningGateway
    tee: SoftwareTee
    launcher: SimulatedLauncher[Scripts]
    enclaves: AttestedScripts
    store: OwnerStore
    policy: AttestationPolicy
    directory: Path

    @property
    def faults(self) -> Faults:
        """What the operator's side does wrong; nothing at first."""
        return self.enclaves.faults

    @property
    def owner_key(self) -> str:
        """An owner's API key."""
        assert self.running.first_keys is not None
        return self.running.first_keys.owner

    @property
    def operator_key(self) -> str:
        """The operator's API key."""
        assert self.running.first_keys is not None
        return self.running.first_keys.operator

    def client(self, policy: AttestationPolicy | None = None, key: str | None = None) -> AsyncClient:
        """A client with the owner's store; under the right policy unless told otherwise."""
        return AsyncClient(
            self.running.url, key or self.owner_key, policy=policy or self.policy, store=self.store
        )

    def encrypt(self, name: str = "digits.enc") -> Encrypted:
        """The digits, encrypted: 20 % held out."""
        source = open_source("sklearn:digits")
        return encrypt(source, self.directory / name, self.store, EncryptOptions(held_out_percent=20))

    def request(self, dataset_id: str, exchanges: int = 3) -> JobRequest:
        """A small job."""
        return JobRequest(dataset_id=dataset_id, builder_sha256=BUILDER, exchanges=exchanges, query_rows=100)


@pytest.fixture(scope="session")
def software_tee(tmp_path_factory: pytest.TempPathFactory) -> SoftwareTee:
    """One development TEE for all tests: making its keys takes a while."""
    return open_tee(tmp_path_factory.mktemp("tee"))


@pytest.fixture
async def world(tmp_path: Path, software_tee: SoftwareTee) -> AsyncIterator[World]:
    """A running gateway with one published builder."""
    settings = Settings(state_dir=tmp_path / "state", port=0, enclave_socket=tmp_path / "g.sock")
    enclaves = AttestedScripts(software_tee)
    launcher = scripted(settings.socket_path, enclaves.scripts)
    policy = policy_for(software_tee)
    await publish_builder(settings)
    async with running_gateway(settings, launcher) as running:
        yield World(
            running, software_tee, launcher, enclaves, OwnerStore(tmp_path / "home"), policy, tmp_path
        )


async def publish_builder(settings: Settings) -> None:
    """A builder's row, put where the gateway will find it: nothing here runs its component."""
    manifest = builder_manifest(name="class-means", envelope={"max_parameters": 640})
    row = BuilderRow(
        sha256=BUILDER,
        tenant="operator",
        size=1,
        manifest=canonical_json(manifest).decode(),
        capabilities='["dataset-shape"]',
    )
    settings.state_dir.mkdir(mode=0o700, exist_ok=True)
    database = await Database.open(settings.sqlalchemy_url)
    async with database.writing() as session:
        session.add(row)
    await database.close()
