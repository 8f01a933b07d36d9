"""A trainer's requests for chunks: the host sees each, so none waits for what the engine makes of the last.

What a trainer reads before an exchange is public. It is fetched in groups: all that it has, or of streamed
data a window, one each slot. The learner is served from what was fetched. One that asks for nothing any more,
or too late, changes no request.
"""

import asyncio
from collections import deque

from chiron.runtime.datasets import Fetch
from chiron.runtime.pacing import group_chunks
from chiron.runtime.training.partition import Partition, holding_pass, streaming_pass
from chiron.wire.errors import ChironError
from chiron.wire.jobs import JobSpec


class ReadingLate(ChironError):
    """The learner asked for a chunk that was let go: it came too late, or reads more than is due."""

    code = "reading-late"


class SlottedReads:
    """The reads of one trainer in one trial."""

    def __init__(self, spec: JobSpec, index: int, fetch: Fetch) -> None:
        self._partition = Partition.of(spec, index)
        self._group = group_chunks(spec)
        self._fetch = fetch
        self._begun = False
        self._groups: deque[list[int]] = deque()
        """What is due, and not fetched yet."""
        self._fetched: deque[tuple[int, bytes]] = deque()
        """What the learner has not asked for yet, in order."""
        self._moved = asyncio.Condition()

    @property
    def more(self) -> bool:
        """Whether groups are left before this exchange."""
        return bool(self._groups)

    def due(self, exchange: int) -> bool:
        """Let go of what was fetched; what is read before this exchange of the trial is due now.

        Returns:
            Whether it is the first, before which all is read once.
        """
        first, self._begun = not self._begun, True
        self._fetched.clear()
        passes = [holding_pass(self._partition)] if first else []
        if self._partition.streamed:
            passes.append(streaming_pass(self._partition, exchange))
        size = self._group
        self._groups = deque(
            list(numbers[at : at + size]) for numbers in passes for at in range(0, len(numbers), size)
        )
        return first

    async def fetch_group(self, *, keep: bool = True) -> None:
        """Fetch what is next, if anything. Without `keep` it is let go, and so is what was not asked for."""
        if not self._groups:
            return
        fetched = [(number, await self._fetch(number)) for number in self._groups[0]]
        async with self._moved:
            self._groups.popleft()
            if keep:
                self._fetched.extend(fetched)
            else:
                self._fetched.clear()
            self._moved.notify_all()

    async def taken(self) -> None:
        """Wait until the learner has asked for all that was fetched."""
        async with self._moved:
            await self._moved.wait_for(lambda: not self._fetched)

    async def serve(self, number: int) -> bytes:
        """A chunk for the learner, which asks for them in order.

        Raises:
            ReadingLate: it was let go.
        """
        async with self._moved:
            await self._moved.wait_for(lambda: bool(self._fetched) or not self._groups)
            if not self._fetched or self._fetched[0][0] != number:
                raise ReadingLate("a chunk was asked for that is not there any more")
            _, chunk = self._fetched.popleft()
            self._moved.notify_all()
        return chunk
