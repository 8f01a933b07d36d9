"""The exchange with a barrier (`sync`, `local`): all trainers push, one merge, all get its result.

For each number the life is: first push arrives → … → last push arrives, or the deadline passes → merge in a
thread → result for everyone, also for a trainer that asks again because its connection broke.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiron.ps.codec import Flag, Header, Kind, Layout
from chiron.ps.errors import ExchangeRefused, ServerFailed
from chiron.ps.exchange import Change, Entry, Persist, Result, Uploads, finite_sums
from chiron.ps.merging import Contribution, SharedVector, clip_scale
from chiron.ps.streams import Body
from chiron.wire.exchange import ExchangeSpec


class Barrier:
    """An `Exchange` with a barrier: all trainers push, one merge, all get its result."""

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
        self._weights = weights
        self._persist = persist
        self._uploads = Uploads(spec)
        self._counters = np.zeros(2, np.int64)
        """Exchanges merged, and the trial of the last of them."""
        self._changes: dict[int, tuple[Header, Change]] = {}
        self._sums = np.zeros((spec.trainers, layout.sums))
        self._merged_sums = np.zeros(layout.sums)
        self._set_aside = np.zeros(spec.trainers, np.bool_)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._merge: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def next(self) -> int:
        """The exchange that is merged next."""
        return int(self._counters[0])

    @property
    def state(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that a checkpoint holds: the live memory itself."""
        return {"counters.barrier": self._counters, "sums": self._merged_sums, "set_aside": self._set_aside}

    def restored(self) -> None:
        """Nothing to do: nothing is derived from the arrays in `state`."""

    @property
    def present(self) -> frozenset[int]:
        """The trainers whose change for the next exchange has arrived."""
        return frozenset(self._changes)

    async def enter(self, trainer: int) -> Entry:
        """The present vector, once no merge is under way."""
        await self._quiet()
        generation = self._shared.generation
        return Entry(self.next, self._shared.current, lambda: self._shared.generation == generation)

    async def reached(self, number: int) -> None:
        """Wait until `next` is at least `number`."""
        while self.next < number:
            await asyncio.shield(self._done)

    async def settled(self) -> None:
        """Wait for the merge under way.

        Raises:
            ExchangeRefused: trainers are in the middle of an exchange.
        """
        await self._quiet()
        if self._changes:
            raise ExchangeRefused("exchange-open", "an exchange of the present trial is under way")

    def knows(self, _trainer: int, merged: int) -> bool:
        """Whether that many exchanges are merged here."""
        return merged <= self.next

    async def _quiet(self) -> None:
        while self._merge is not None:
            await asyncio.shield(self._done)

    async def push(self, trainer: int, header: Header, sums: NDArray[np.float64], body: Body) -> Result:
        """Take the change of `trainer` for exchange `header.exchange`; wait for the merged vector.

        A change for an exchange that was already merged, or a second one for the same, is read and dropped:
        its sender gets the result of the last merge, which `Result.header.exchange` names.

        Raises:
            ExchangeRefused: the exchange lies in the future.
        """
        number = header.exchange
        await self._quiet()
        if number > self.next:
            raise ExchangeRefused("exchange-ahead", "the exchanges before this one are not merged yet")
        if number == self.next and trainer not in self._changes:
            change = await self._uploads.receive(trainer, body)
            if number == self.next and self._merge is None:
                self._accept(trainer, header, sums, change)
        else:
            await body.drain()
        while number == self.next or self._merge is not None:
            await asyncio.shield(self._done)
        return self._result(trainer)

    def _accept(self, trainer: int, header: Header, sums: NDArray[np.float64], change: Change) -> None:
        self._changes[trainer] = header, change
        self._sums[trainer] = finite_sums(sums)
        if len(self._changes) == self._spec.trainers:
            self._start_merge()
        elif self._spec.deadline_s and self._deadline is None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._spec.deadline_s, self._start_merge)

    def _start_merge(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._merge is None:
            self._merge = asyncio.create_task(self._run_merge())

    async def _run_merge(self) -> None:
        done = self._done
        present = sorted(self._changes)
        contributions = {k: c for k in present if (c := self._contribution(k)) is not None}
        try:
            await asyncio.to_thread(self._shared.merge, [c for c in contributions.values() if c.weight > 0])
            self._note(present, frozenset(contributions))
            await self._persist()
        except BaseException as error:
            # Nobody may go on from a vector that is half merged: everyone who waits or comes is told so.
            failure = ServerFailed("server-failed", "the server could not merge or keep its state")
            failure.__cause__ = error
            done.set_exception(failure)
            done.exception()
            if isinstance(error, Exception):
                return
            raise
        self._changes.clear()
        self._merge = None
        self._done = asyncio.get_running_loop().create_future()
        done.set_result(None)

    def _note(self, present: list[int], merged: frozenset[int]) -> None:
        """Record the outcome of a merge. It counts from now on, but nobody is answered before `_done`."""
        self._set_aside[:] = False
        self._set_aside[[k for k in present if k not in merged]] = True
        np.sum(self._sums[present], axis=0, out=self._merged_sums)
        self._counters[:] = self.next + 1, self._changes[present[0]][0].trial

    def _contribution(self, trainer: int) -> Contribution | None:
        """None where the change is set aside: its sender says so, or it is not finite."""
        header, change = self._changes[trainer]
        if header.flags & Flag.SET_ASIDE or not math.isfinite(change.norm):
            return None
        # The sender's norm is over all shards, ours over this slice; a faulty one cannot understate ours.
        scale = clip_scale(max(header.norm, change.norm), self._spec)
        return Contribution(change.frame, self._weights[trainer], scale)

    def _result(self, trainer: int) -> Result:
        generation = self._shared.generation
        header = self._layout.header(
            Kind.MERGED,
            trial=int(self._counters[1]),
            exchange=self.next - 1,
            excluded=int(self._set_aside.sum()),
            flags=Flag.SET_ASIDE if self._set_aside[trainer] else Flag.NONE,
        )
        return Result(
            header,
            self._merged_sums.copy(),
            self._shared.outgoing,
            valid=lambda: self._shared.generation == generation,
        )
