"""A clock tells a host next to nothing of a paced job: programs that read rows off it read chance.

What leaves at the end of a slot cannot come sooner, whatever the engine did: that holds on any machine. What
comes later than it should is noise of the machine, and of the few further slots.
"""

import numpy as np
import pytest

from chiron.runtime.pacing import MOST_LATE_SLOTS
from chiron.wire.reports import OutcomeStatus, TrainingReport
from tests.traffic import clocks
from tests.traffic.conftest import Run
from tests.traffic.world import View

PACED = {"trainers": 1, "validation_percent": 0, "terms": {"unpaced": False}}
BUILD_S = 1.5
"""Of the builders' manifest."""
ANSWER_S = 0.5


def slot(view: View) -> TrainingReport:
    """What the owner is told of the slots."""
    assert view.outcome.metrics is not None
    assert view.outcome.metrics.slot_s is not None
    assert view.job.slot_s == view.outcome.metrics.slot_s
    return view.outcome.metrics


def expect_whole_slots(view: View) -> None:
    told = slot(view)
    assert told.slot_s is not None
    assert (clocks.exchange_times(view) > told.slot_s).all()
    assert told.late_slots <= MOST_LATE_SLOTS


@pytest.fixture(scope="module")
def slowed(run: Run) -> tuple[View, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """A job whose every batch says how slow it is to be; and what they say."""
    secret = np.random.default_rng(7).integers(0, clocks.LEVELS, 16)
    builder = clocks.component(clocks.slow_where_rows_say(), epochs=1)
    slow, calm = np.full((8, 2), 200, np.float32), np.zeros((1, 2), np.float32)
    data = clocks.rows_that_say(secret, seed=0)
    view = run(data, builder, exchanges=len(secret) + 1, queries=[calm, slow, calm], **PACED)
    return view, secret


def test_what_a_batch_takes_is_not_read_off_the_time_of_its_exchange(
    slowed: tuple[View, np.ndarray[tuple[int], np.dtype[np.int64]]],
) -> None:
    view, secret = slowed
    expect_whole_slots(view)
    # The first interval follows the first change.
    times, later = clocks.exchange_times(view)[: len(secret) - 1], secret[1:]
    # That a change was late is told, so often as is promised: what is left tells nothing.
    in_time = np.diff([report.late_slots for report in view.reports])[: len(times)] == 0
    read = clocks.read_off(times[in_time], later[in_time])
    assert clocks.told_bits(read, later[in_time]) == 0


def test_an_answer_leaves_at_the_end_of_its_slot_whatever_its_rows(
    slowed: tuple[View, np.ndarray[tuple[int], np.dtype[np.int64]]],
) -> None:
    view, _ = slowed
    times = clocks.answer_times(view)
    assert len(times) == 3
    assert (times > ANSWER_S).all()


def test_a_training_that_ends_early_keeps_the_slots(run: Run) -> None:
    random = np.random.default_rng(0)
    x, y = random.random((64, 2), dtype=np.float32), random.integers(0, 3, 64)
    x[5, 0] = 5.0
    builder = clocks.component(clocks.diverging_on_one_row(), epochs=4)
    view = run((x, y), builder, exchanges=5, **PACED)
    assert view.outcome.status is OutcomeStatus.DIVERGED
    expect_whole_slots(view)


def test_a_builder_that_fails_at_once_fills_its_slot(run: Run) -> None:
    random = np.random.default_rng(0)
    data = random.random((64, 2), dtype=np.float32), random.integers(0, 3, 64)
    view = run(data, clocks.counting(turns=1), exchanges=4, **PACED)
    assert view.outcome.code == "builder-trapped"
    assert clocks.builders_time(view) > BUILD_S
