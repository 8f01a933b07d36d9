"""What the command prints: results on stdout, everything else on stderr, so that `--json` can be piped."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from chiron import Opened, StepResult


@cache
def console() -> "Console":
    """The console that people read: standard error. It is made late, as rich is not needed to start."""
    from rich.console import Console

    # Without emoji: `:heavy_check_mark:` in a stranger's text would become a mark of ours.
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def print_json(value: Any) -> None:
    """One line of JSON on stdout."""
    # At once: whoever started a command that goes on, as `serve` does, waits for this line.
    print(json.dumps(value, default=str, allow_nan=False), flush=True)


def as_text(text: str) -> str:
    """Text of others for a terminal: what is not printable is spelled out, so nothing moves the cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape(text: str) -> str:
    """Text that rich shows as it is. Its further lines are marked, so that none looks like one of ours."""
    from rich.markup import escape as escaped

    return escaped("\n  │ ".join(map(as_text, text.split("\n"))))


def note(text: str) -> None:
    """A line about what goes on."""
    console().print(escape(text))


def done(text: str) -> None:
    """A line about what was achieved."""
    console().print(f"[green]✓[/] {escape(text)}")


def warn(text: str) -> None:
    """A warning, in red: nobody should overlook it."""
    console().print(f"[bold red]WARNING: {escape(text)}[/]")


def fail(code: str, message: str) -> None:
    """An error with its stable code."""
    console().print(f"[bold red]error[/] [red]\\[{escape(code)}][/] {escape(message)}")


def print_traceback(kind: type[BaseException], error: BaseException, trace: "TracebackType | None") -> None:
    """What Python prints of an error that nobody foresaw (`sys.excepthook`), whatever its message quotes."""
    import sys
    from traceback import format_exception

    for line in "".join(format_exception(kind, error, trace)).rstrip().split("\n"):
        print(as_text(line), file=sys.stderr)


def print_steps(steps: "Sequence[StepResult]") -> None:
    """The numbered steps of verification and their results; those after a refusal were not reached."""
    from chiron.runtime.attestation.steps import Step

    for result in steps:
        mark = "[green]✓[/]" if result.passed else "[bold red]✗[/]"
        console().print(
            f"  {mark} {result.step.number:2}. {escape(result.step.title)} [dim]({escape(result.detail)})[/]"
        )
    reached = {result.step for result in steps}
    for step in Step:
        if step not in reached:
            console().print(f"  [dim]· {step.number:2}. {escape(step.title)} (not reached)[/]")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns on stdout; never cut, so that identifiers can be copied."""
    table = [[as_text(str(cell)) for cell in row] for row in [columns, *rows]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def progress_bar(label: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; the function it gives takes what is done and what there is to do."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:>11}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(), disable=not _animated()) as progress:
        task = progress.add_task(label, total=None)

        def advance(complete: int, total: int) -> None:
            progress.update(task, completed=complete, total=total)

        yield advance


def _animated() -> bool:
    """Bars are for people: in a pipe or a log they are noise."""
    return console().is_terminal and "CHIRON_NO_PROGRESS" not in os.environ


def tell_opened(opened: "Opened") -> None:
    """Say that a predictor was opened, for how many rows and until when."""
    rows = "any number of" if opened.rows is None else opened.rows
    note(
        f"opened the predictor of job {opened.job}, code {opened.measurement}: it may answer you {rows} rows"
        f" until {opened.until:%Y-%m-%d %H:%M} UTC"
    )
