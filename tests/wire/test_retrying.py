"""Retries: until when, how often, after what, on a clock of the test's."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.wire.retrying import Backoff, retry


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def backoff(self, patience_s: float, first_s: float = 1.0, longest_s: float = 8.0) -> Backoff:
        return Backoff(
            patience_s, first_pause_s=first_s, longest_pause_s=longest_s, clock=self.clock, sleep=self.sleep
        )


def failing(times: int, error: Exception) -> Callable[[], Awaitable[str]]:
    """Fails so many times, then answers."""
    left = iter(range(times))

    async def attempt() -> str:
        for _ in left:
            raise error
        return "answer"

    return attempt


def lost(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


async def test_an_attempt_that_succeeds_waits_for_nothing() -> None:
    time = FakeTime()
    assert await retry(failing(0, ConnectionError()), lost, time.backoff(60)) == "answer"
    assert time.pauses == []


async def test_pauses_double_up_to_the_longest() -> None:
    time = FakeTime()
    assert await retry(failing(6, ConnectionError()), lost, time.backoff(60)) == "answer"
    assert time.pauses == [1, 2, 4, 8, 8, 8]


async def test_when_the_patience_is_over_the_last_failure_itself_is_raised() -> None:
    time, error = FakeTime(), ConnectionResetError("away")
    with pytest.raises(ConnectionResetError) as raised:
        await retry(failing(1000, error), lost, time.backoff(10))
    assert raised.value is error
    assert time.pauses == [1, 2, 4, 3], "the last pause ends with the patience, and an attempt follows it"


async def test_what_is_not_transient_is_raised_at_once() -> None:
    time = FakeTime()
    with pytest.raises(ValueError, match="refused"):
        await retry(failing(1, ValueError("refused")), lost, time.backoff(60))
    assert time.pauses == []


async def test_patience_counts_from_the_first_failure_not_from_the_first_attempt() -> None:
    time = FakeTime()
    answers = failing(2, ConnectionError())

    async def long_poll() -> str:
        time.now += 3600 if not time.pauses else 0
        return await answers()

    assert await retry(long_poll, lost, time.backoff(10)) == "answer"


async def test_a_peer_that_was_there_in_between_begins_a_new_absence() -> None:
    time = FakeTime()
    backoff = time.backoff(10)
    for _ in range(20):
        for _ in range(3):
            await backoff.after(ConnectionError())
        backoff.reset()
    assert time.pauses == [1, 2, 4] * 20


async def test_a_peer_that_is_there_and_has_nothing_is_asked_for_ever() -> None:
    time = FakeTime()
    backoff = time.backoff(10)
    for _ in range(9):
        await backoff.pause()
    await backoff.after(ConnectionError())
    assert time.pauses == [1, 2, 4, *[8] * 7]


@pytest.mark.parametrize("where", ["attempt", "pause"])
async def test_cancellation_ends_an_attempt_and_a_pause_at_once(where: str) -> None:
    entered = asyncio.Event()

    async def attempt() -> None:
        if where == "attempt":
            entered.set()
            await asyncio.Event().wait()
        raise ConnectionError

    async def sleep(_: float) -> None:
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(retry(attempt, lambda _: True, Backoff(60, sleep=sleep)))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_timeout_around_it_is_not_taken_for_a_failure_of_the_attempt() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await retry(failing(10**9, ConnectionError()), lambda _: True, Backoff(3600))


@given(patience=st.floats(0, 100), first=st.floats(1, 10), longest=st.floats(1, 100))
def test_all_pauses_together_are_the_patience(patience: float, first: float, longest: float) -> None:
    time = FakeTime()
    with pytest.raises(ConnectionError):
        asyncio.run(retry(failing(10**9, ConnectionError()), lost, time.backoff(patience, first, longest)))
    assert time.now - 1000.0 == pytest.approx(patience, abs=1e-6)
