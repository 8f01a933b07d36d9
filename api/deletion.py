"""Deleting what the gateway holds: a dataset's ciphertext, a job with all its sealed objects, a builder.

Bytes go before the rows that name them, so that a deletion that was interrupted is completed by the same
request again. What is in use stays, and the refusal says what to do. An owner does not rely on any of this:
without her keys and her share, what a gateway kept all the same opens for nobody.
"""

from dataclasses import dataclass

from sqlalchemy import delete

from chiron.api.builders import Builders
from chiron.api.datasets import Datasets, dataset_blobs
from chiron.api.errors import DatasetInUse, JobInUse
from chiron.api.jobs.objects import object_blobs
from chiron.api.jobs.predictors import Predictors
from chiron.api.jobs.record import JobRecords
from chiron.api.jobs.supervisor import Supervisor
from chiron.api.keys import KeyRing
from chiron.api.storage.blobs import BlobStore
from chiron.api.storage.database import Database
from chiron.api.storage.tables import (
    ChunkRow,
    DatasetRow,
    EventRow,
    JobRow,
    LaunchRow,
    ObjectRow,
    ObservationRow,
)
from chiron.wire.jobs import TERMINAL_STATES
from chiron.wire.public_api import PredictorState


@dataclass(frozen=True)
class Deletion:
    """Deletes, each for who may."""

    database: Database
    blobs: BlobStore
    datasets: Datasets
    builders: Builders
    records: JobRecords
    supervisor: Supervisor
    predictors: Predictors
    keys: KeyRing

    async def dataset(self, tenant: str, dataset_id: str) -> None:
        """Delete the tenant's dataset.

        Raises:
            DatasetUnknown: the tenant has none of this id.
            DatasetInUse: a job that has not ended reads it.
        """
        await self.datasets.is_complete(tenant, dataset_id)
        for user, job in await self.records.unfinished():
            if user == tenant and job.spec.dataset.dataset_id == dataset_id:
                raise DatasetInUse(f"job {job.spec.job} reads this dataset: cancel it, or wait for its end")
        await self.blobs.delete_below(dataset_blobs(tenant, dataset_id))
        async with self.database.writing() as session:
            theirs = ChunkRow.tenant == tenant, ChunkRow.dataset == dataset_id
            await session.execute(delete(ChunkRow).where(*theirs))
            await session.execute(
                delete(DatasetRow).where(DatasetRow.tenant == tenant, DatasetRow.id == dataset_id)
            )
            # Again, while nobody else writes: a chunk may have arrived since. A later one finds no dataset.
            await self.blobs.delete_below(dataset_blobs(tenant, dataset_id))

    async def builder(self, tenant: str, sha256: str) -> None:
        """Withdraw a tenant's builder; delete the component if nobody else publishes it.

        Its name and version stay taken for this component.

        Raises:
            BuilderUnknown: there is none.
            Forbidden: another operator published it.
            BuilderInUse: a job that has not ended runs it, and nobody else publishes it.
        """

        async def in_use() -> bool:
            return any(job.spec.builder_sha256 == sha256 for _, job in await self.records.unfinished())

        await self.builders.withdraw(tenant, sha256, in_use)

    async def job(self, tenant: str, job_id: str) -> None:
        """Delete a job that has ended: its sealed objects, its journal and its guests' keys.

        Raises:
            JobUnknown: the tenant has none of this id.
            JobInUse: it has not ended, or its predictor runs.
        """
        job = await self.records.get(job_id, tenant)
        if job.state not in TERMINAL_STATES:
            raise JobInUse("the job has not ended: cancel it first")
        if self.predictors.state(job_id) is not PredictorState.STOPPED:
            raise JobInUse("the job's predictor runs: stop it first (DELETE /v1/jobs/{id}/predictor)")
        await self.supervisor.settled(job_id)
        await self.keys.dismiss_guests(job_id)
        await self.blobs.delete_below(object_blobs(job_id))
        async with self.database.writing() as session:
            for table in (EventRow, LaunchRow, ObjectRow, ObservationRow):
                await session.execute(delete(table).where(table.job == job_id))
            await session.execute(delete(JobRow).where(JobRow.id == job_id))
        # What was being written when the rows went; anything later finds no job and keeps nothing.
        await self.blobs.delete_below(object_blobs(job_id))
