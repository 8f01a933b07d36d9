"""How a table is meant, as its owner says."""

from dataclasses import dataclass

from chiron.client.errors import SourceInvalid
from chiron.client.schemas import AS_FOUND, DatePart, Reading, SchemaFile
from chiron.wire.contract import InputType, Task


@dataclass(frozen=True)
class TableOptions:
    """Options of a table: how its columns are meant, and how its file is read."""

    target: str | None = None
    """The target's column; the last one by default."""
    task: Task | None = None
    """By default the target tells: see `chiron.client.datasets.tables.tasks`."""
    input_dtype: InputType = InputType.FLOAT32
    input_shape: tuple[int, ...] | None = None
    """How a row's inputs are shaped; by default one dimension."""
    categorical: tuple[str, ...] = ()
    """Input columns that hold categories."""
    dates: tuple[tuple[str, tuple[DatePart, ...]], ...] = ()
    """Input columns that hold dates, and which of their parts become numbers; none means the usual ones."""
    fill_missing: bool = False
    """A missing number becomes its column's mean, a missing category none of them; else they are refused."""
    ids: tuple[str, ...] = ()
    """Columns that travel to the output of predictions, and are no input."""
    drop: tuple[str, ...] = ()
    """Columns that are left out."""
    keep: tuple[str, ...] = ()
    """Columns that are meant as they are, whatever looks doubtful about them."""
    reading: Reading = AS_FOUND
    schema: SchemaFile | None = None
    """What was settled for an earlier file: this one is taken the same way, and nothing else is asked."""
    show_values: bool = False
    """Errors quote the cell that they are about."""


def date_option(text: str) -> tuple[str, tuple[DatePart, ...]]:
    """A column and parts of its dates: `born=year,month`, or `born` for the usual ones.

    Raises:
        SourceInvalid: there is no such part.
    """
    name, equals, parts = text.rpartition("=")
    if not equals:
        return text, ()
    try:
        return name, tuple(DatePart(part.strip()) for part in parts.split(","))
    except ValueError:
        known = ", ".join(DatePart)
        raise SourceInvalid(f"--date {name}=…: a date's parts are {known}") from None
