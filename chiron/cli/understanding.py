"""What was understood of a source, as a block that people read before anything is encrypted."""

import sys
from typing import TYPE_CHECKING

from chiron.cli.output import note

if TYPE_CHECKING:
    from chiron.client.datasets.understood import ClassCount, ColumnFacts, Skipped, Understood

COLUMNS_SHOWN = 40
"""Columns of a table; the JSON has all."""
CLASSES_SHOWN = 20


def show(understood: "Understood") -> None:
    """Print the block on standard error; its doubts are told by the error that they are."""
    from chiron.client.datasets.understood import shape_text

    _line("source", understood.source)
    _line("rows", f"{understood.rows:,}")
    for name, value in understood.facts.items():
        _line(name, value)
    if understood.target is not None:
        _line("target", f"{understood.target} ({understood.target_why})")
    _line("task", f"{understood.task.value} ({understood.task_why})")
    if understood.classes:
        _line("classes", _classes(understood.classes))
    _line("input", f"{shape_text(understood.input_shape)} {understood.input_dtype}")
    _columns(understood.columns)
    for part in understood.skipped:
        _line("not taken", f"{part.count} × {part.reason}: {', '.join(part.examples)}{_more(part)}")
    for remark in understood.remarks:
        _line("note", remark)


def ask(understood: "Understood", *, yes: bool) -> None:
    """Refuse what is doubtful; in a terminal, ask whether the rest is meant, unless `yes`.

    Raises:
        SourceDoubtful: an option must settle something first.
    """
    import typer

    understood.settled()
    if not yes and sys.stdin.isatty():
        typer.confirm("Is that what you mean?", abort=True, err=True)


def _line(name: str, text: str) -> None:
    note(f"  {name:<10} {text}")


def _more(part: "Skipped") -> str:
    return ", …" if part.count > len(part.examples) else ""


def _classes(classes: "tuple[ClassCount, ...]") -> str:
    from chiron.client.datasets.understood import FEW_EXAMPLES

    counted = [(one.name, FEW_EXAMPLES if one.count is None else one.count) for one in classes]
    # The rarest first, if there are too few of them to learn from.
    told = sorted(counted, key=lambda one: min(one[1], FEW_EXAMPLES))[:CLASSES_SHOWN]
    numbers = {one.name: "" if one.count is None else f" {one.count:,}" for one in classes}
    shown = [f"{name!r}{numbers[name]}" for name, _ in told]
    more = f", and {len(classes) - len(shown)} more" if len(classes) > len(shown) else ""
    return f"{len(classes)}: {', '.join(shown)}{more}"


def _columns(columns: "tuple[ColumnFacts, ...]") -> None:
    for column in columns[:COLUMNS_SHOWN]:
        _line("column", _column(column))
    if len(columns) > COLUMNS_SHOWN:
        _line("column", f"… and {len(columns) - COLUMNS_SHOWN} more (--json tells all)")


def _column(column: "ColumnFacts") -> str:
    told = [column.type]
    if column.lowest is not None:
        told.append(f"{_value(column.lowest)} to {_value(column.highest)}")
    elif column.distinct is not None:
        told.append(f"{column.distinct:,} values")
    if column.missing:
        told.append(f"{column.missing:,} missing")
    return f"{column.name}: {', '.join(told)} → {column.encoded}"


def _value(value: float | str | None) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
