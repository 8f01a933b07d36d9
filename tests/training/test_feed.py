"""Who trains on which example when: exactly once an epoch, whatever the partition, and a public schedule."""

import asyncio
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.runtime.training import partition
from chiron.runtime.training.allocation import StepAllocation
from chiron.runtime.training.batches import validation_mask
from chiron.runtime.training.errors import TrainingFailed
from chiron.runtime.training.feed import Feed, InMemoryFeed, StreamedFeed
from chiron.runtime.training.partition import Partition, due_chunks
from chiron.runtime.training.seeds import Seeds
from chiron.wasm_sandbox.recipe import Recipe
from tests.support.jobs import Job, make_job


def numbered(examples: int, **terms: Any) -> Job:
    """Each example's input is its own number."""
    x = np.arange(examples, dtype=np.float32)[:, None]
    return make_job(x, np.arange(examples) % 3, classes=3, **terms)


def feed_of(job: Job, recipe: Recipe, index: int) -> tuple[Feed, StepAllocation]:
    table = StepAllocation.of(job.spec, recipe, 0)
    part = Partition.of(job.spec, index)
    kind = StreamedFeed if part.streamed else InMemoryFeed
    return kind(part, table, Seeds(job.spec.seed, "trainer", index), job.spec.dataset), table


async def drain(
    feed: Feed, job: Job, exchange: int, fetched: list[int] | None = None
) -> list[tuple[int, list[float]]]:
    """(step, numbers of its examples) of everything due before an exchange."""
    rows = [examples async for examples in job.dataset(fetched).read(feed.due(exchange))]
    return [
        (batch.step, portion.examples.x[batch.rows, 0].tolist())
        for portion in feed.portions(iter(rows), exchange)
        for batch in portion.batches
    ]


def seen_by_epoch(job: Job, recipe: Recipe) -> tuple[dict[int, Counter[float]], set[float]]:
    """How often each example was trained on in each epoch, over all trainers, and the validation rows."""
    seen: dict[int, Counter[float]] = {}
    held: set[float] = set()
    for index in range(job.spec.exchange.trainers):
        feed, table = feed_of(job, recipe, index)
        for exchange in range(job.spec.exchange.exchanges):
            for step, numbers in asyncio.run(drain(feed, job, exchange)):
                seen.setdefault(step // table.steps_per_epoch, Counter()).update(numbers)
        held |= set(feed.validation.x.reshape(-1).tolist())
    return seen, held


@given(
    examples=st.integers(1, 90),
    rows=st.integers(1, 20),
    trainers=st.integers(1, 4),
    batch=st.integers(1, 40),
    percent=st.integers(0, 50),
    exchanges=st.integers(1, 6),
)
@settings(max_examples=40, deadline=None)
def test_every_example_is_seen_once_an_epoch(
    examples: int, rows: int, trainers: int, batch: int, percent: int, exchanges: int
) -> None:
    job = numbered(examples, rows=rows, trainers=trainers, exchanges=exchanges, validation_percent=percent)
    seen, held = seen_by_epoch(job, Recipe(epochs=2, batch_size=batch))
    assert len(held) == examples * percent // 100
    once = Counter(number for number in map(float, range(examples)) if number not in held)
    assert seen == ({0: once, 1: once} if once else {})


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds so small that every dataset is streamed, in windows of two or three chunks."""
    monkeypatch.setattr(partition, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr("chiron.runtime.training.feed.WINDOW_BYTES", 900)


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize(("epochs", "exchanges"), [(1, 1), (3, 4), (2, 6), (1, 5), (4, 7)])
@pytest.mark.parametrize("trainers", [1, 3])
def test_streamed_examples_are_seen_once_an_epoch(epochs: int, exchanges: int, trainers: int) -> None:
    job = numbered(97, rows=10, trainers=trainers, exchanges=exchanges, validation_percent=20)
    assert Partition.of(job.spec, 0).streamed
    seen, held = seen_by_epoch(job, Recipe(epochs=epochs, batch_size=8))
    assert len(held) == 19
    once = Counter(number for number in map(float, range(97)) if number not in held)
    assert seen == dict.fromkeys(range(epochs), once)


@pytest.mark.usefixtures("streamed")
def test_streaming_more_epochs_than_exchanges_is_refused() -> None:
    job = numbered(97, rows=10, exchanges=3)
    with pytest.raises(TrainingFailed) as failed:
        StepAllocation.of(job.spec, Recipe(epochs=3), 0)
    assert failed.value.code == "too-few-exchanges"


async def reads(job: Job, recipe: Recipe | None, index: int, start: int = 0) -> list[int]:
    """Chunks that a trainer asks the host for; without a recipe, one that does not learn.

    One that begins at a later exchange `start` is in a crashed trainer's place.
    """
    fetched: list[int] = []
    feed = None if recipe is None else feed_of(job, recipe, index)[0]
    for exchange in range(start, job.spec.exchange.exchanges):
        if feed is None:
            fetched += due_chunks(Partition.of(job.spec, index), exchange, first=exchange == start)
        else:
            await drain(feed, job, exchange, fetched)
    return fetched


@pytest.mark.parametrize("small", [False, True])
def test_what_the_host_is_asked_for_does_not_depend_on_the_recipe(
    small: bool, request: pytest.FixtureRequest
) -> None:
    if small:
        request.getfixturevalue("streamed")
    job = numbered(97, rows=10, trainers=2, exchanges=5, validation_percent=10)
    recipes = [None, Recipe(epochs=1), Recipe(epochs=4, batch_size=3), Recipe(steps=2, batch_size=50)]
    asked = [asyncio.run(reads(job, recipe, 1)) for recipe in recipes]
    assert asked[0] == asked[1] == asked[2] == asked[3]
    late = [asyncio.run(reads(job, recipe, 1, start=2)) for recipe in recipes]
    assert late[0] == late[1] == late[2] == late[3]
    assert Counter(asked[0]) == Counter(dict.fromkeys((1, 3, 5, 7, 9), 6 if small else 1))


def test_batches_are_even_and_shuffled_anew_each_epoch() -> None:
    job = numbered(50, rows=50, exchanges=2, validation_percent=0)
    feed, table = feed_of(job, Recipe(epochs=2, batch_size=8), 0)
    batches = asyncio.run(drain(feed, job, 0))
    assert table.steps == len(batches) == 14
    assert {len(numbers) for _, numbers in batches} == {7, 8}
    first = [number for step, numbers in batches if step < 7 for number in numbers]
    second = [number for step, numbers in batches if step >= 7 for number in numbers]
    assert first != second
    assert first != sorted(first)


def test_steps_do_not_depend_on_the_number_of_trainers() -> None:
    tables = [
        StepAllocation.of(numbered(100, rows=9, trainers=n).spec, Recipe(epochs=3), 0) for n in (1, 2, 5)
    ]
    assert len({(table.steps, table.steps_per_epoch) for table in tables}) == 1


def test_steps_beyond_the_envelope_are_refused() -> None:
    job = numbered(100)
    with pytest.raises(TrainingFailed) as failed:
        StepAllocation.of(job.spec, Recipe(steps=20_001), 0)
    assert failed.value.code == "steps-exceed-envelope"


@given(
    counts=st.lists(st.integers(0, 40), min_size=2, max_size=5).filter(any),
    percent=st.integers(0, 50),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_validation_rows_are_stratified(counts: list[int], percent: int, seed: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    y = np.random.default_rng(seed).permutation(y)
    count = len(y) * percent // 100
    mask = validation_mask(y, count, np.random.default_rng(seed))
    assert mask.sum() == count
    for number, occurs in enumerate(counts):
        assert abs((y[mask] == number).sum() - occurs * count / len(y)) <= 1
