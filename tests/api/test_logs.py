"""Logs: one JSON object a line, and never what a caller sent."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from chiron.api.monitoring import configure_logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(stream)
    yield stream
    root.handlers, root.level = handlers, level


def test_a_line_is_an_object_with_its_fields(lines: io.StringIO) -> None:
    logging.getLogger("chiron.api.x").info("launched", extra={"job": "ab", "code": 3})
    line = json.loads(lines.getvalue())
    assert (line["message"], line["job"], line["code"], line["level"]) == ("launched", "ab", 3, "info")


def test_an_exceptions_text_is_not_logged(lines: io.StringIO) -> None:
    try:
        int("hunter2")
    except ValueError:
        logging.getLogger("chiron.api.x").exception("failed")
    assert json.loads(lines.getvalue())["error"] == "ValueError"
    assert "hunter2" not in lines.getvalue()


def test_a_hostile_value_stays_in_its_line(lines: io.StringIO) -> None:
    logging.getLogger("chiron.api.x").info("seen", extra={"path": 'a\n{"message": "forged"}'})
    assert len(lines.getvalue().splitlines()) == 1


def test_the_databases_parameters_are_not_logged_even_when_everything_is(lines: io.StringIO) -> None:
    configure_logs(lines, logging.DEBUG)
    logging.getLogger("aiosqlite").debug("executing %s", "secret")
    assert not lines.getvalue()
