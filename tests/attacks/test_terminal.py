"""Text of strangers on a terminal or in a log: it is printed as text, whichever way it takes."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from chiron.api.monitoring import JsonFormatter
from chiron.cli import output

HOSTILE = "\x1b[2K\x1b[1A\x1b[32m✓ verified\x9b31m\u202e[bold green]ok[/] :heavy_check_mark: \r\a\x08"
anything = st.text() | st.text(alphabet="\x1b\x9b[]/0m;:\\\r\n\u202ea").map(lambda text: text + HOSTILE)


def on_a_console(show: Callable[[], None]) -> str:
    """What `show` writes to the console that people read."""
    screen = io.StringIO()
    with redirect_stderr(screen):
        show()
    return screen.getvalue()


def is_text(written: str) -> bool:
    return all(line.isprintable() for line in written.split("\n"))


@given(anything)
def test_attack_messages_errors_and_warnings_hold_no_control_sequence(text: str) -> None:
    for show in (output.note, output.done, output.warn, partial(output.fail, text)):
        written = on_a_console(partial(show, text))
        assert is_text(written)
        further = written.rstrip("\n").split("\n")[1:]
        assert all(line.startswith("  │ ") for line in further if line)


def test_attack_marks_and_colours_of_rich_cannot_be_asked_for() -> None:
    forged = "[green]✓[/] :heavy_check_mark: [link=x]y[/link]"
    assert on_a_console(partial(output.note, forged)) == f"{forged}\n"


@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=3))
def test_attack_tables_of_foreign_names_stay_tables(rows: list[tuple[str, str]]) -> None:
    screen = io.StringIO()
    with redirect_stdout(screen):
        output.print_table(["builder", "publisher"], rows)
    assert is_text(screen.getvalue())
    assert screen.getvalue().count("\n") == len(rows) + 1


@given(anything)
def test_attack_json_output_holds_ascii_only(text: str) -> None:
    screen = io.StringIO()
    with redirect_stdout(screen):
        output.print_json({"name": text})
    assert screen.getvalue().isascii()
    assert is_text(screen.getvalue())


@given(anything)
def test_attack_gateways_log_is_one_line_of_ascii_whatever_it_quotes(text: str) -> None:
    record = logging.LogRecord("aiohttp", logging.INFO, "", 0, "%s", (text,), None)
    record.extra = text
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert is_text(line)
    assert "\n" not in line
    assert json.loads(line)["message"] == text


def test_attack_traceback_that_quotes_a_stranger_is_printed_as_text() -> None:
    program = (
        "from chiron.cli import application\n"
        f"hostile = {HOSTILE!r}\n"
        "def command():\n"
        "    def run(**_):\n"
        "        raise ValueError(hostile)\n"
        "    return run\n"
        "application.command = command\n"
        "application.main([])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    written = ended.stderr.decode()
    assert ended.returncode == 1
    assert "ValueError" in written
    assert "\\x1b[2K" in written
    assert is_text(written)
