"""Attacks on a job's history: whoever edits what the owner's side did is noticed."""

from pathlib import Path

import pytest

from chiron.client.errors import HistoryAltered, RecordUnusable
from chiron.client.history import FIRST, Deed, History, note
from chiron.client.store import OwnerStore

JOB = "ab" * 16


@pytest.fixture
def history(tmp_path: Path) -> History:
    store = OwnerStore(tmp_path)
    note(store, JOB, Deed.CREATED, spec="1" * 64)
    note(store, JOB, Deed.GRANTED, grant="2" * 64)
    note(store, JOB, Deed.PREDICTED, rows=80)
    note(store, JOB, Deed.FORGOT)
    return History(store, JOB)


def test_lines_are_kept_in_order_and_private(history: History) -> None:
    assert [entry.did for entry in history.entries()] == ["created", "granted", "predicted", "forgot"]
    assert [entry.number for entry in history.entries()] == [1, 2, 3, 4]
    assert history.path.stat().st_mode & 0o777 == 0o600
    assert history.head() != FIRST


@pytest.mark.parametrize(
    ("old", "new"), [(b'"rows":80', b'"rows":8'), (b"granted", b"created"), (b"Z", b"z")]
)
def test_an_edited_line_is_noticed(history: History, old: bytes, new: bytes) -> None:
    history.path.write_bytes(history.path.read_bytes().replace(old, new, 1).replace(b"+00:00", b"+01:00", 1))
    with pytest.raises(HistoryAltered, match="line"):
        history.entries()


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_line_that_was_taken_out_is_noticed(history: History, gone: int) -> None:
    lines = history.path.read_bytes().splitlines(keepends=True)
    history.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    with pytest.raises(HistoryAltered):
        history.entries()


def test_a_line_that_was_put_in_or_moved_is_noticed(history: History) -> None:
    lines = history.path.read_bytes().splitlines(keepends=True)
    for changed in ([*lines, lines[-1]], [lines[0], lines[2], lines[1], lines[3]]):
        history.path.write_bytes(b"".join(changed))
        with pytest.raises(HistoryAltered):
            history.entries()


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_a_history_cut_at_its_end_is_noticed_also_after_the_next_line(history: History, kept: int) -> None:
    history.path.write_bytes(b"".join(history.path.read_bytes().splitlines(keepends=True)[:kept]))
    for _ in range(2):
        with pytest.raises(HistoryAltered):
            history.entries()
        history.append(Deed.DELETED)


def test_a_history_that_is_gone_is_noticed(history: History) -> None:
    history.path.unlink()
    history.append(Deed.DELETED)
    with pytest.raises(HistoryAltered, match="line 1"):
        history.entries()


def test_a_history_without_word_of_its_length_is_noticed(history: History) -> None:
    history.path.with_suffix(".head").unlink()
    with pytest.raises(HistoryAltered, match="how many lines"):
        history.entries()


def test_a_crash_between_a_line_and_its_head_is_no_alarm(history: History) -> None:
    head = history.path.with_suffix(".head")
    before = head.read_bytes()
    history.append(Deed.DELETED)
    head.write_bytes(before)
    assert len(history.entries()) == 5
    history.append(Deed.DELETED)
    assert len(history.entries()) == 6


def test_what_may_be_repeated_is_written_once(history: History) -> None:
    history.append(Deed.FORGOT, once=True)
    assert len(history.entries()) == 4
    history.append(Deed.PREDICTED, {"rows": 81}, once=True)
    assert len(history.entries()) == 5


def test_a_line_that_a_crash_cut_short_is_no_alarm_and_does_not_stop_the_next(history: History) -> None:
    with history.path.open("ab") as file:
        file.write(b'{"at":"2026-')
    assert len(history.entries()) == 4
    history.append(Deed.DELETED)
    assert [entry.did for entry in history.entries()][-2:] == ["forgot", "deleted"]


def test_a_history_that_others_can_read_is_refused(history: History) -> None:
    history.path.chmod(0o644)
    with pytest.raises(RecordUnusable):
        history.entries()
