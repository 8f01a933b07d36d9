"""The public record of jobs: their states, which only go forward, and their numbered events."""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from chiron.api.errors import JobEnded, JobUnknown, ProgressRefused
from chiron.api.paging import PageRequest, cursor, newest_first
from chiron.api.settings import Limits
from chiron.api.storage.database import Database
from chiron.api.storage.tables import EventRow, JobRow, ObjectRow
from chiron.wire.encoding import canonical_json
from chiron.wire.jobs import TERMINAL_STATES, Job, JobSpec, JobState, PublicFailure, may_follow
from chiron.wire.objects import all_bytes

_TO_JSON = TypeAdapter(dict[str, Any] | str | None).dump_json
_PAGE_BYTES = 4 * 2**20
"""Of a list's page, as a rule; one spec alone may have more."""


class JobRecords:
    """Jobs in the database, and who waits for their next change."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        # Each lives as long as somebody waits for it.
        self._changes: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    async def create(self, tenant: str, spec: JobSpec) -> Job:
        """A job in its first state."""
        text = canonical_json(spec)
        row = JobRow(
            id=spec.job,
            tenant=tenant,
            spec=text.decode(),
            spec_bytes=len(text),
            object_bytes=all_bytes(spec),
            state=JobState.CREATED,
            exchanges=spec.exchange.exchanges,
            exchanges_done=0,
        )
        async with self._database.writing() as session:
            session.add(row)
            await session.flush()
            session.add(EventRow(job=spec.job, sequence=1, state=row.state, exchanges_done=0))
        return _job(row)

    async def count_earlier(self) -> None:
        """Write down what jobs take that an earlier version of the gateway made; it did not count it."""
        async with self._database.writing() as session:
            for row in await session.scalars(select(JobRow).where(JobRow.spec_bytes.is_(None))):
                row.spec_bytes = len(row.spec)
                try:
                    row.object_bytes = all_bytes(JobSpec.model_validate_json(row.spec))
                except ValidationError:
                    # Of a form that no enclave of ours makes anything for; what it has stored is counted.
                    row.object_bytes = await session.scalar(_stored_bytes(row.id)) or 0

    async def get(self, job: str, tenant: str | None) -> Job:
        """A job of `tenant`, or of any tenant for None.

        Raises:
            JobUnknown: there is none that this tenant may see.
        """
        return _job(await self._row(job, tenant))

    async def owned(self, job: str) -> tuple[str, Job]:
        """A job with its tenant; raises `JobUnknown`."""
        row = await self._row(job, None)
        return row.tenant, _job(row)

    async def state(self, job: str) -> JobState:
        """Where the job is; raises `JobUnknown`. Cheaper than `get`, which parses the spec."""
        return JobState((await self._row(job, None)).state)

    async def listed(self, tenant: str | None, wanted: PageRequest) -> bytes:
        """A page of the jobs of `tenant` (None: of all), newest first: a `Page[Job]` as JSON.

        Specs go into it as they are stored, unparsed, as each may be megabytes. A page ends before its
        limit where it is long enough.
        """
        query = newest_first(select(JobRow), wanted, JobRow.created_at, JobRow.id)
        if tenant is not None:
            query = query.where(JobRow.tenant == tenant)
        items: list[bytes] = []
        last: tuple[str, str] | None = None
        following = None
        async with self._database.reading() as session:
            async for row in await session.stream_scalars(query.execution_options(yield_per=1)):
                if last and (len(items) == wanted.limit or sum(map(len, items)) > _PAGE_BYTES):
                    following = cursor(last)
                    break
                items.append(_as_json(row))
                last = row.created_at, row.id
        return b'{"items":[%s],"next":%s}' % (b",".join(items), _TO_JSON(following))

    async def unfinished(self) -> Sequence[tuple[str, Job]]:
        """Jobs that have not ended, each with its tenant."""
        query = select(JobRow).where(JobRow.state.not_in(TERMINAL_STATES))
        async with self._database.reading() as session:
            return [(row.tenant, _job(row)) for row in await session.scalars(query)]

    async def advance(
        self,
        job: str,
        state: JobState,
        exchanges_done: int = 0,
        failure: PublicFailure | None = None,
        slot_s: float | None = None,
    ) -> bool:
        """Take a job forward and tell who waits; False where it was there already.

        Raises:
            JobUnknown: there is none.
            JobEnded: it is over, in another state.
            ProgressRefused: the step goes backward, or counts exchanges that the spec does not have.
        """
        async with self._database.writing() as session:
            row = await session.get(JobRow, job)
            if row is None:
                raise JobUnknown("there is no such job")
            done = max(exchanges_done, row.exchanges_done)
            if not _moves(row, state, exchanges_done):
                return False
            row.state, row.exchanges_done, row.failure = state, done, failure
            row.awaiting_owner = False
            row.slot_s = slot_s or row.slot_s
            await _note(session, row)
        self._tell(job)
        return True

    async def await_owner(self, job: str, *, waits: bool) -> None:
        """Note that the parameter server waits for its owner's grant again, or that it has it.

        Each one that waits is an event of its own: it has a key of its own.

        Raises:
            JobUnknown: there is none.
            JobEnded: it is over.
        """
        async with self._database.writing() as session:
            row = await session.get(JobRow, job)
            if row is None:
                raise JobUnknown("there is no such job")
            if not waits and not row.awaiting_owner:
                return
            if JobState(row.state) in TERMINAL_STATES:
                raise JobEnded(f"the job is over: {row.state}")
            row.awaiting_owner = waits
            await _note(session, row)
        self._tell(job)

    async def events(self, job: str, after: int) -> Sequence[EventRow]:
        """Events with a sequence above `after`, in order; at most a page of them."""
        query = select(EventRow).where(EventRow.job == job, EventRow.sequence > after)
        async with self._database.reading() as session:
            return (await session.scalars(query.order_by(EventRow.sequence).limit(self._limits.listed))).all()

    def next_change(self, job: str) -> asyncio.Event:
        """Set at the job's next change. Take it before reading, or a change in between is missed."""
        return self._changes.setdefault(job, asyncio.Event())

    def _tell(self, job: str) -> None:
        change = self._changes.pop(job, None)
        if change is not None:
            change.set()

    async def _row(self, job: str, tenant: str | None) -> JobRow:
        async with self._database.reading() as session:
            row = await session.get(JobRow, job)
        if row is None or (tenant is not None and row.tenant != tenant):
            raise JobUnknown("you have no job of this id")
        return row


def _stored_bytes(job: str) -> Select[int]:
    return select(func.sum(ObjectRow.size)).where(ObjectRow.job == job)


def _moves(row: JobRow, state: JobState, exchanges_done: int) -> bool:
    now = JobState(row.state)
    if exchanges_done > row.exchanges:
        raise ProgressRefused(f"the spec has {row.exchanges} exchanges")
    if now == state and exchanges_done <= row.exchanges_done:
        # A retry whose first answer was lost.
        return False
    if now in TERMINAL_STATES:
        raise JobEnded(f"the job is over: {now}")
    if now != state and not may_follow(now, state):
        raise ProgressRefused(f"a job does not go from {now} to {state}")
    return True


async def _note(session: AsyncSession, row: JobRow) -> None:
    """The job as it is now, as its next event."""
    last = await session.scalar(select(func.max(EventRow.sequence)).where(EventRow.job == row.id)) or 0
    session.add(
        EventRow(
            job=row.id,
            sequence=last + 1,
            state=row.state,
            exchanges_done=row.exchanges_done,
            failure=row.failure,
            awaiting_owner=row.awaiting_owner,
        )
    )


def _job(row: JobRow) -> Job:
    return Job(spec=_spec(row.spec), **_progress(row))


def _as_json(row: JobRow) -> bytes:
    """As `_job(row).model_dump_json()`, without parsing the spec."""
    return b'{"spec":%s,%s' % (row.spec.encode(), _TO_JSON(_progress(row))[1:])


def _progress(row: JobRow) -> dict[str, Any]:
    """Everything of a job but its spec."""
    return {
        "state": JobState(row.state),
        "exchanges_done": row.exchanges_done,
        "failure": PublicFailure(row.failure) if row.failure else None,
        "awaiting_owner": row.awaiting_owner,
        "slot_s": row.slot_s,
        "created_at": row.created_at,
    }


@lru_cache(maxsize=16)
def _spec(text: str) -> JobSpec:
    """A spec never changes, and is asked for often."""
    return JobSpec.model_validate_json(text)
