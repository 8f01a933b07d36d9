"""Slots: a paced job's enclaves say something only at the ends of slots, whose lengths are public.

Whoever writes the graph can make its time depend on data. So how long work takes must not be seen, but only
whether it was done at the end of its slot. A slot begins with what the host caused itself: an answer has
come. At its end goes out what is ready. What is not may take whole further slots, from a budget of a few a
job; beyond it the enclave goes on without that work. `docs/traffic.md` counts what this tells.

A slot's length before an exchange is a rung of a public ladder. It is measured before any data is read
(`chiron.runtime.roles.measuring`). All other slots' lengths follow from the public spec alone.
"""

import asyncio
import math
from typing import Any, Protocol

from chiron.runtime.datasets import ChunkForm
from chiron.runtime.training.partition import WINDOW_BYTES, is_streamed
from chiron.wire.jobs import JobSpec

RUNGS = 32
"""Places on the ladder: which one a job's slot has tells five bits."""
RUNG_FACTOR = 1.25
SHORTEST_SLOT_S = 0.05
READING_BYTES_PER_S = 100e6
READING_CHUNK_S = 0.001
"""Data is taken in faster than that. Slots have room for it by its size, which is public."""
RAISE_RUNGS, RAISES = 3, 4
"""A later trial may once raise the slot by 3, 6, 9 or 12 rungs: to about 2, 4, 8 or 16 times as long."""
MOST_LATE_SLOTS = 4
"""Further slots that a job's trainers may take together."""
_ROWS_PER_ANSWER = 64
_LONGEST_OPENING_S = 15.0
"""With four further ones it is within what a gateway waits for an answer."""
_MODEL_COPIES = 4
"""Writing a model out passes over it a few times."""


def group_chunks(spec: JobSpec) -> int:
    """Chunks that a trainer fetches at a time: of streamed data a window, else all it has."""
    if is_streamed(spec):
        return max(1, WINDOW_BYTES // ChunkForm.of(spec.dataset).layout().size)
    return max(1, -(-spec.dataset.chunks // spec.exchange.trainers))


def groups_of_an_exchange(spec: JobSpec) -> int:
    """Slots before each exchange: one, or of streamed data one a window."""
    if not is_streamed(spec):
        return 1
    chunks = -(-spec.dataset.chunks // spec.exchange.trainers)
    return -(-chunks // group_chunks(spec))


def reading_s(spec: JobSpec) -> float:
    """Room for taking in the chunks that are fetched at a time."""
    return group_chunks(spec) * (spec.dataset.chunk_ciphertext_bytes / READING_BYTES_PER_S + READING_CHUNK_S)


def slot_s(spec: JobSpec, rung: int) -> float:
    """Length of the slot before an exchange on this rung, from 0. Much data makes the first one long."""
    first = max(SHORTEST_SLOT_S, spec.exchange.period_s, reading_s(spec))
    return first * RUNG_FACTOR ** min(rung, RUNGS - 1)


def rung_for(spec: JobSpec, needed_s: float) -> int | None:
    """The lowest rung whose slot has room for this; None where the highest has not."""
    return next((rung for rung in range(RUNGS) if slot_s(spec, rung) >= needed_s), None)


def raised_for(spec: JobSpec, rung: int, needed_s: float) -> int:
    """The lowest rung that has room among this one and those that a later trial may raise it to."""
    choices = [min(rung + RAISE_RUNGS * n, RUNGS - 1) for n in range(RAISES + 1)]
    return next((one for one in choices if slot_s(spec, one) >= needed_s), rung)


def making_ready_s(spec: JobSpec) -> float:
    """The slot for the builder's call, and for a trainer to make ready for a trial."""
    return spec.envelope.build_seconds


def opening_s(spec: JobSpec) -> float:
    """The slot for an opening that has a predictor's model loaded, while its owner waits."""
    return min(making_ready_s(spec), _LONGEST_OPENING_S)


def ending_s(spec: JobSpec, rung: int) -> float:
    """The slot after a trial's last exchange: its outcome is taken up, and the model written out."""
    return slot_s(spec, rung) + _MODEL_COPIES * 4 * spec.exchange.parameters / READING_BYTES_PER_S


def answer_s(spec: JobSpec) -> float:
    """The slot for an answer to a query."""
    return spec.envelope.answer_seconds * -(-spec.query_rows // _ROWS_PER_ANSWER)


def late_slots(spec: JobSpec) -> int:
    """Further slots that a job may take: four, or as many as tell no more than the bound."""
    choices = range(MOST_LATE_SLOTS, 0, -1)
    return next((n for n in choices if _told_bits(spec, n) <= bound_bits(spec)), 0)


def late_slots_of(spec: JobSpec, index: int) -> int:
    """Those of them that are trainer `index`'s: they are dealt out, so no two trainers can take the same."""
    return len(range(index, late_slots(spec), spec.exchange.trainers))


def told_bits(spec: JobSpec) -> float:
    """What time can tell of a paced job, at most: its rung, when it was raised, where it was late."""
    return _told_bits(spec, late_slots(spec))


def bound_bits(spec: JobSpec) -> float:
    """The bound on `told_bits` that is promised: 5 + 4 · log2(slots before exchanges, of all trainers)."""
    return math.log2(RUNGS) + MOST_LATE_SLOTS * math.log2(_exchange_slots(spec))


def _told_bits(spec: JobSpec, late: int) -> float:
    raises = 1 + RAISES * (spec.trials - 1)
    return math.log2(RUNGS) + math.log2(raises) + math.log2(math.comb(_places(spec) + late, late))


def _exchange_slots(spec: JobSpec) -> int:
    return spec.exchange.trainers * spec.exchange.exchanges * groups_of_an_exchange(spec)


def _places(spec: JobSpec) -> int:
    """All slots of a job: before exchanges, at each trial's begin and end, and for the builder's calls."""
    return _exchange_slots(spec) + (2 * spec.exchange.trainers + 1) * spec.trials


class Clock(Protocol):
    """What tells the time, and waits."""

    def time(self) -> float:
        """Seconds, from anywhen."""
        ...

    async def sleep_until(self, time: float) -> None:
        """Return at this time, or at once if it is over."""
        ...


class LoopClock:
    """The running event loop's."""

    def time(self) -> float:
        """See `Clock.time`."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, time: float) -> None:
        """See `Clock.sleep_until`."""
        await asyncio.sleep(max(0.0, time - self.time()))


class Slots:
    """One enclave's slots, one after the other."""

    def __init__(self, budget: int, *, paced: bool = True, clock: Clock | None = None) -> None:
        """`budget` is how many further slots it may take. An enclave that is not paced only waits."""
        self._clock = clock or LoopClock()
        self._paced = paced
        self._left = budget
        self._began = 0.0
        self.late = 0
        """Further slots that were taken."""

    def begin(self) -> None:
        """Begin a slot: the host has just caused something."""
        self._began = self._clock.time()

    async def end(self, work: "asyncio.Future[Any]", length_s: float) -> bool:
        """Wait for the end of the slot, and of further ones while the work is not done and the budget lasts.

        Returns:
            Whether the work is done. What it raised is not looked at.
        """
        if not self._paced:
            await asyncio.wait({work})
            return True
        end = self._began + length_s
        await self._clock.sleep_until(end)
        while not work.done() and self._left:
            self.take(1)
            end += length_s
            await self._clock.sleep_until(end)
        return work.done()

    def take(self, further: int) -> None:
        """Count further slots, as many as are left at most: also those that a predecessor took."""
        further = min(further, self._left)
        self._left -= further
        self.late += further
