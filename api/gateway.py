"""The gateway without its HTTP: every part of the control plane, put together."""

import asyncio
from typing import Self

from chiron.api.allowed_machines import make_file
from chiron.api.builders import Builders
from chiron.api.datasets import Datasets
from chiron.api.deletion import Deletion
from chiron.api.jobs.fleet import Fleet
from chiron.api.jobs.objects import JobObjects, Observations
from chiron.api.jobs.predictors import Predictors, Upgrades
from chiron.api.jobs.record import JobRecords
from chiron.api.jobs.relay import Relay
from chiron.api.jobs.supervisor import Supervisor
from chiron.api.key_watch import KeyWatch
from chiron.api.keys import FirstKeys, KeyRing
from chiron.api.launchers.launcher import Launcher
from chiron.api.machines import Machines
from chiron.api.monitoring import Metrics
from chiron.api.quotas import Memory, Storage, Streams
from chiron.api.rates import Rates
from chiron.api.settings import Settings
from chiron.api.storage.blobs import FilesystemBlobStore
from chiron.api.storage.database import Database
from chiron.wire.private import private_directory


class Gateway:
    """One gateway's parts. `open` makes one, `close` ends its enclaves and closes its storage."""

    def __init__(self, settings: Settings, database: Database, launcher: Launcher) -> None:
        limits, blobs = settings.limits, FilesystemBlobStore(settings.blob_dir)
        self.settings = settings
        self.launcher = launcher
        self.metrics = Metrics()
        self.keys = KeyRing(database)
        self.key_watch = KeyWatch(self.keys)
        self.rates = Rates(limits)
        self.streams = Streams(limits)
        self.memory = Memory(limits)
        self.storage = Storage(database, limits)
        self.builders = Builders(database, blobs, limits)
        self.datasets = Datasets(database, blobs, limits, self.storage)
        self.observations = Observations(database, limits)
        self.records = JobRecords(database, limits)
        self.objects = JobObjects(database, blobs)
        self.fleet = Fleet(settings, database, launcher, self.metrics)
        self.supervisor = Supervisor(settings, self.records, self.fleet, self.metrics)
        self.predictors = Predictors(settings, self.fleet, self.supervisor, launcher.images)
        self.relay = Relay(settings, self.fleet, self.observations, self.metrics)
        self.machines = Machines(settings, launcher)
        self.upgrades = Upgrades(self.fleet, self.predictors, self.relay)
        self.deletion = Deletion(
            database,
            blobs,
            self.datasets,
            self.builders,
            self.records,
            self.supervisor,
            self.predictors,
            self.keys,
        )
        self.stopping = asyncio.Event()
        """Set when the gateway begins to stop. Event streams end then."""
        self.openapi = b""
        self._database = database
        self._predicting: frozenset[str] = frozenset()
        """Jobs whose predictors an earlier process left."""

    @classmethod
    async def open(cls, settings: Settings, launcher: Launcher) -> tuple[Self, FirstKeys | None]:
        """Open the storage and settle what an earlier process left. At the first start: also the first keys.

        Raises:
            StorageError: the database cannot be opened, or is of another version.
            DirectoryNotOurs: the state directory is another user's.
        """
        private_directory(settings.state_dir)
        make_file(settings)
        database = await Database.open(settings.sqlalchemy_url)
        gateway = cls(settings, database, launcher)
        await gateway.records.count_earlier()
        gateway._predicting = await gateway.fleet.revoke_left_over()
        await gateway.supervisor.reconcile()
        return gateway, await gateway.keys.bootstrap() if settings.first_keys else None

    async def resume(self) -> None:
        """Launch again what an earlier process left unfinished, now that enclaves can reach us."""
        self.supervisor.resume()
        await self.predictors.resume([await self.records.owned(job) for job in sorted(self._predicting)])

    async def stop_enclaves(self) -> None:
        """End every enclave, which can call until then. The next start launches them again."""
        self.fleet.stopping = True
        await self.predictors.close()
        await self.supervisor.close()
        await self.fleet.close()

    async def close(self) -> None:
        """Close the storage; nothing may run any more."""
        await self.key_watch.close()
        await self._database.close()
