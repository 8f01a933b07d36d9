"""All that the operator's side ever holds of a job, by kind, name and size: promise 2 can be checked here."""

from collections.abc import Sequence

from sqlalchemy import select

from chiron.api.settings import Limits
from chiron.api.storage.database import Database
from chiron.api.storage.tables import BuilderRow, ChunkRow, JobRow, ObservationRow
from chiron.wire.enclave_api import Observation
from chiron.wire.jobs import JobSpec


class Observations:
    """The journal of stored objects and relayed messages."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits

    async def note(self, job: str, kind: str, name: str, size: int) -> None:
        """Write down that `size` bytes of ciphertext went by."""
        async with self._database.writing() as session:
            session.add(ObservationRow(job=job, kind=kind, name=name, size=size))

    async def of(self, job: str) -> Sequence[Observation]:
        """Builder and dataset as stored, then everything in the order it happened; cut at the limit."""
        async with self._database.reading() as session:
            row = await session.get_one(JobRow, job)
            spec = JobSpec.model_validate_json(row.spec)
            builder = await session.get_one(BuilderRow, spec.builder_sha256)
            dataset = spec.dataset.dataset_id
            chunks = await session.scalars(
                select(ChunkRow)
                .where(ChunkRow.tenant == row.tenant, ChunkRow.dataset == dataset)
                .order_by(ChunkRow.number)
                .limit(self._limits.observations)
            )
            noted = await session.scalars(
                select(ObservationRow)
                .where(ObservationRow.job == job)
                .order_by(ObservationRow.id)
                .limit(self._limits.observations)
            )
            found = [
                Observation(kind="builder", name=spec.builder_sha256, size=builder.size),
                Observation(kind="dataset-manifest", name=dataset, size=len(spec.dataset.model_dump_json())),
                *(
                    Observation(kind="dataset-chunk", name=str(chunk.number), size=chunk.size)
                    for chunk in chunks
                ),
                *(Observation(kind=note.kind, name=note.name, size=note.size) for note in noted),
            ]
        return found[: self._limits.observations]
