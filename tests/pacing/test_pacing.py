"""Slots are a function of public facts, and what leaves at their ends tells no more than is promised."""

import asyncio
import itertools
import math
from collections.abc import Awaitable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime import pacing
from chiron.runtime.pacing import MOST_LATE_SLOTS, RUNG_FACTOR, RUNGS, Slots
from chiron.wire.jobs import JobSpec
from tests.support.specs import dataset_manifest, job_spec

SLOT_S = 2.0


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    """Small and large jobs, over data in memory and streamed."""
    exchanges = draw(st.integers(1, 500))
    chunks, rows = draw(st.integers(1, 400)), draw(st.sampled_from([10, 300_000]))
    dataset = dataset_manifest(examples=chunks * rows, chunk_examples=rows, chunk_sha256=("0" * 64,) * chunks)
    trainers = draw(st.integers(1, 40))
    exchange = {"exchanges": exchanges, "trainers": trainers}
    return job_spec(dataset=dataset, exchange=exchange, trials=draw(st.integers(1, min(exchanges, 64))))


@settings(deadline=None)
@given(specs())
def test_a_paced_job_tells_no_more_than_the_bound(spec: JobSpec) -> None:
    assert pacing.told_bits(spec) <= pacing.bound_bits(spec)
    slots = spec.exchange.exchanges * spec.exchange.trainers * pacing.groups_of_an_exchange(spec)
    assert pacing.bound_bits(spec) == 5 + 4 * math.log2(slots)


@settings(deadline=None)
@given(specs())
def test_the_trainers_share_the_budget_of_the_job(spec: JobSpec) -> None:
    shares = [pacing.late_slots_of(spec, index) for index in range(spec.exchange.trainers)]
    assert sum(shares) == pacing.late_slots(spec) <= MOST_LATE_SLOTS


@settings(deadline=None)
@given(specs(), st.floats(0, 1e6))
def test_a_rung_is_the_lowest_with_room(spec: JobSpec, needed: float) -> None:
    rung = pacing.rung_for(spec, needed)
    lengths = [pacing.slot_s(spec, n) for n in range(RUNGS)]
    if rung is None:
        assert lengths[-1] < needed
        return
    assert lengths[rung] >= needed
    assert all(length < needed for length in lengths[:rung])
    assert all(math.isclose(b / a, RUNG_FACTOR) for a, b in itertools.pairwise(lengths))


@settings(deadline=None)
@given(specs(), st.integers(0, RUNGS - 1), st.floats(0, 1e6))
def test_a_slot_is_raised_to_one_of_four_lengths_or_not_at_all(
    spec: JobSpec, rung: int, needed: float
) -> None:
    raised = pacing.raised_for(spec, rung, needed)
    assert rung <= raised < RUNGS
    assert (raised - rung) % pacing.RAISE_RUNGS == 0 or raised == RUNGS - 1
    assert raised == rung or pacing.slot_s(spec, raised) >= needed


def test_the_budget_of_a_usual_job_is_four_and_of_a_tiny_one_less() -> None:
    assert pacing.late_slots(job_spec(exchange={"exchanges": 20})) == MOST_LATE_SLOTS
    assert pacing.late_slots(job_spec(exchange={"exchanges": 1, "trainers": 1})) == 0


class FakeClock:
    """Jumps to the next moment that anything happens at."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, asyncio.Future[None]]] = []

    def time(self) -> float:
        """See `Clock`."""
        return self.now

    async def sleep_until(self, time: float) -> None:
        """See `Clock`: what is done by then is done before it returns."""
        for at, future in self.due:
            if at <= time and not future.done():
                future.set_result(None)
        self.now = max(self.now, time)


async def _ends(durations: list[float], budget: int) -> tuple[list[float], list[bool], int]:
    """When the slots of work of these durations end, whether it was done, and the further slots taken."""
    clock = FakeClock()
    slots = Slots(budget, clock=clock)
    ends, done = [], []
    for duration in durations:
        slots.begin()
        work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        clock.due = [(clock.now + duration, work)]
        done.append(await slots.end(work, SLOT_S))
        ends.append(clock.now)
    return ends, done, slots.late


def _run(awaited: Awaitable[tuple[list[float], list[bool], int]]) -> tuple[list[float], list[bool], int]:
    async def run() -> tuple[list[float], list[bool], int]:
        return await awaited

    return asyncio.run(run())


@given(st.lists(st.floats(0, SLOT_S), max_size=30))
def test_work_that_is_done_in_time_is_not_seen(durations: list[float]) -> None:
    ends, done, late = _run(_ends(durations, MOST_LATE_SLOTS))
    assert ends == [SLOT_S * (number + 1) for number in range(len(durations))]
    assert all(done)
    assert late == 0


@given(st.lists(st.floats(0, 100 * SLOT_S), max_size=30), st.integers(0, MOST_LATE_SLOTS))
def test_what_is_late_moves_the_end_by_whole_slots_from_the_budget(
    durations: list[float], budget: int
) -> None:
    ends, done, late = _run(_ends(durations, budget))
    lengths = [end - begin for begin, end in zip([0.0, *ends], ends, strict=False)]
    assert all(length % SLOT_S == 0 for length in lengths)
    assert sum(lengths) == SLOT_S * (len(durations) + late)
    assert late <= budget
    assert done == [duration <= length for duration, length in zip(durations, lengths, strict=True)]


@pytest.mark.parametrize("wanted", [0, 3, 9])
async def test_further_slots_of_a_predecessor_count(wanted: int) -> None:
    slots = Slots(MOST_LATE_SLOTS, clock=FakeClock())
    slots.take(wanted)
    assert slots.late == min(wanted, MOST_LATE_SLOTS)


async def test_an_enclave_that_is_not_paced_only_waits() -> None:
    clock = FakeClock()
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work.set_result(None)
    assert await Slots(0, paced=False, clock=clock).end(work, SLOT_S)
    assert clock.now == 0
