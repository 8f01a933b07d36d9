"""The exchange without a barrier (`async`): each change is merged as it comes, and answered at once.

A change is worked out from a vector that others have moved on meanwhile. If they made more than
`staleness` rounds (each of all trainers), the change is set aside; its sender goes on from the present
vector. Every trainer still makes its fixed number of exchanges.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.ps.codec import Flag, Header, Kind, Layout
from chiron.ps.errors import ExchangeRefused
from chiron.ps.exchange import Change, Entry, Persist, Result, Uploads, finite_sums
from chiron.ps.merging import Contribution, SharedVector, clip_scale
from chiron.ps.streams import Body
from chiron.wire import codes
from chiron.wire.exchange import ExchangeSpec


class Asynchronous:
    """An `Exchange` without a barrier: each change is merged as it comes, and answered at once."""

    def __init__(
        self,
        spec: ExchangeSpec,
        layout: Layout,
        shared: SharedVector,
        weights: Sequence[float],
        persist: Persist,
    ) -> None:
        self._spec = spec
        self._layout = layout
        self._shared = shared
        total = math.fsum(weights)
        self._weights = [weight / total for weight in weights]
        self._persist = persist
        self._uploads = Uploads(spec)
        self._due = np.zeros(spec.trainers, np.int64)
        self._sums = np.zeros((spec.trainers, layout.sums))
        self._answers: dict[int, tuple[Header, NDArray[np.float64]]] = {}
        self._merges = 0
        self._seen = np.zeros(spec.trainers, np.int64)
        """The count of merges in the vector that each trainer works from."""
        self._merging = asyncio.Lock()
        self._moved = asyncio.Condition()

    @property
    def next(self) -> int:
        """The exchange that the slowest trainer has yet to make."""
        return int(self._due.min())

    @property
    def state(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that a checkpoint holds: the live memory itself."""
        return {"due": self._due, "seen": self._seen, "sums": self._sums}

    def restored(self) -> None:
        """Go on from the content that `state` was given; answers are not kept, so retries start over."""
        self._merges = int(self._seen.max())

    async def enter(self, trainer: int) -> Entry:
        """A copy of the present vector, in the trainer's own buffer: the shared one moves on."""
        frame = self._uploads.take(trainer)
        async with self._merging:
            await asyncio.to_thread(np.copyto, frame, self._shared.current)
            self._seen[trainer] = self._merges
        return Entry(int(self._due[trainer]), frame, self._unchanged(trainer))

    async def reached(self, number: int) -> None:
        """Wait until `next` is at least `number`."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.next >= number)

    async def settled(self) -> None:
        """Wait until all trainers have made the same number of exchanges; after the deadline, go on."""
        async with self._moved:
            try:
                async with asyncio.timeout(self._spec.deadline_s or None):
                    await self._moved.wait_for(lambda: bool((self._due == self._due[0]).all()))
            except TimeoutError:
                self._due[:] = self._due.max()

    def knows(self, trainer: int, merged: int) -> bool:
        """Whether that many of the trainer's exchanges are merged here."""
        return merged <= int(self._due[trainer])

    async def push(self, trainer: int, header: Header, sums: NDArray[np.float64], body: Body) -> Result:
        """Merge the change of `trainer` for its exchange `header.exchange`; answer the vector as it is then.

        A change that was merged before is read and dropped; its sender gets the same answer again.

        Raises:
            ExchangeRefused: the exchange lies in the trainer's future.
        """
        number = header.exchange
        if number < self._due[trainer] and trainer not in self._answers:
            raise ExchangeRefused(codes.ANSWER_LOST, "the server was restarted since; start from where it is")
        if number > self._due[trainer]:
            raise ExchangeRefused("exchange-ahead", "the exchanges before this one are not merged yet")
        if number == self._due[trainer]:
            change = await self._uploads.receive(trainer, body)
            async with self._merging:
                if number == self._due[trainer]:
                    await self._merge(trainer, header, sums, change)
        else:
            await body.drain()
        return self._result(trainer)

    async def _merge(self, trainer: int, header: Header, sums: NDArray[np.float64], change: Change) -> None:
        limit = self._spec.staleness * self._spec.trainers
        set_aside = (
            bool(header.flags & Flag.SET_ASIDE)
            or not math.isfinite(change.norm)
            or self._merges - self._seen[trainer] > limit
        )
        scale = 0.0 if set_aside else clip_scale(max(header.norm, change.norm), self._spec)
        weight = self._weights[trainer]
        await asyncio.to_thread(
            self._apply, None if set_aside else Contribution(change.frame, weight, scale), change
        )
        self._merges += 0 if set_aside else 1
        self._seen[trainer] = self._merges
        self._sums[trainer] = finite_sums(sums)
        self._answers[trainer] = (
            self._layout.header(
                Kind.MERGED,
                trial=header.trial,
                exchange=header.exchange,
                excluded=int(set_aside),
                flags=Flag.SET_ASIDE if set_aside else Flag.NONE,
            ),
            self._sums.sum(axis=0),
        )
        async with self._moved:
            self._due[trainer] = header.exchange + 1
            await self._persist()
            self._moved.notify_all()

    def _apply(self, contribution: Contribution | None, change: Change) -> None:
        """Merge, and leave the answer in the trainer's own buffer: the shared vector moves on meanwhile."""
        if contribution is None:
            self._shared.merge([])
        else:
            self._shared.apply(contribution)
        np.copyto(change.frame, self._shared.vector)

    def _result(self, trainer: int) -> Result:
        header, sums = self._answers[trainer]
        return Result(header, sums, self._uploads.frame(trainer), self._unchanged(trainer))

    def _unchanged(self, trainer: int) -> Callable[[], bool]:
        version = self._uploads.version(trainer)
        return lambda: self._uploads.version(trainer) == version
