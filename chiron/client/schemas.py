"""What was settled of a kind of data, so that the next file is read and encoded the same way.

It lies in the owner's store, in passes, and in the file of `--schema`. Names of columns and categories tell
something of the data: none of it is ever uploaded.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from chiron.wire.contract import InputType, Task
from chiron.wire.encoding import WireModel

MAX_CATEGORIES = 1000
"""Categories of one column, at most."""
MAX_COLUMNS = 1_000_000
MAX_SCHEMA_BYTES = 64 * 2**20


class ColumnKind(StrEnum):
    """What a column holds, and so how it becomes numbers."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    """1 for true, 0 for false."""
    CATEGORIES = "categories"
    """One-hot."""
    DATE = "date"
    """A number a part."""


class DatePart(StrEnum):
    """A number that a date has."""

    YEAR = "year"
    MONTH = "month"
    DAY = "day"
    WEEKDAY = "weekday"
    """0 is Monday."""
    HOUR = "hour"
    MINUTE = "minute"


class Column(WireModel):
    """One input column: a number, one of `categories` (that many numbers), or parts of a date."""

    name: str
    kind: ColumnKind = ColumnKind.NUMBER
    categories: tuple[str, ...] = Field(default=(), max_length=MAX_CATEGORIES)
    """One-hot in this order."""
    fill: float | None = Field(default=None, allow_inf_nan=False)
    """What stands for a missing number; without it, a missing value is refused. For a missing category, all
    its numbers are 0."""
    offset: float = Field(default=0.0, allow_inf_nan=False)
    """Taken from each number while it is exact: what is left fits in 32 bits."""
    whole: bool = False
    """All numbers are whole ones that 32 bits hold: one that they do not hold is refused."""
    parts: tuple[DatePart, ...] = ()
    """Of a date."""

    @model_validator(mode="before")
    @classmethod
    def _kind_of_older(cls, value: object) -> object:
        """Records written before there were kinds say it by the categories alone."""
        if isinstance(value, Mapping) and "kind" not in value and value.get("categories"):
            return {**value, "kind": ColumnKind.CATEGORIES}
        return value

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if list(self.categories) != sorted(set(self.categories)):
            raise ValueError("categories must ascend")
        if bool(self.categories) != (self.kind is ColumnKind.CATEGORIES):
            raise ValueError("categories belong to a column of categories")
        if bool(self.parts) != (self.kind is ColumnKind.DATE) or len(set(self.parts)) != len(self.parts):
            raise ValueError("parts belong to a date, each once")
        return self

    @property
    def width(self) -> int:
        """The number of numbers that the column becomes."""
        return len(self.categories) or len(self.parts) or 1


class Reading(WireModel):
    """How a file of text is read, where its owner said so; what is None is found out for each file."""

    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str | None = Field(default=None, max_length=40)
    quote: str | None = Field(default=None, min_length=1, max_length=1)
    decimal: Literal[".", ","] | None = None
    header: bool | None = None
    """Whether the first line names the columns."""
    comment: str | None = Field(default=None, min_length=1, max_length=1)
    """Lines that begin with it are left out."""
    sheet: str | None = Field(default=None, max_length=100)
    """Of a workbook."""
    na_values: tuple[str, ...] | None = Field(default=None, max_length=1000)
    """Texts that mean a missing value, besides an empty cell."""

    def over(self, other: "Reading") -> "Reading":
        """This one; what it leaves open is as in `other`."""
        given = self.model_dump(exclude_none=True)
        return other.model_copy(update={name: getattr(self, name) for name in given})


AS_FOUND = Reading()
"""Nothing was said: all is found out."""


class TableSchema(WireModel):
    """What was settled of a table: its columns are found by name in any order."""

    kind: Literal["table"] = "table"
    reading: Reading = AS_FOUND
    order: tuple[str, ...] = Field(default=(), max_length=MAX_COLUMNS)
    """All columns of the training file, in its order; only a file without names goes by it."""
    target: str | None = None
    """None where nothing says what the target was called."""
    columns: tuple[Column, ...] = Field(max_length=MAX_COLUMNS)
    """The inputs, in the order of the model's."""
    ids: tuple[str, ...] = ()
    """They travel to the output, and are no input."""
    dropped: tuple[str, ...] = ()
    """Left out; a new file may have them or not."""
    input_shape: tuple[int, ...] = ()
    input_dtype: InputType = InputType.FLOAT32


Settled = TableSchema
"""What was settled of any kind of data."""


class SchemaFile(WireModel):
    """The file of `--schema`."""

    version: Literal[1] = 1
    task: Task
    class_names: tuple[str, ...] = ()
    """In the order of their indices."""
    settled: Settled


def of_older_record(value: object) -> object:
    """A record as it is written today: an older one has `columns` in place of `settled`."""
    if not isinstance(value, Mapping) or "columns" not in value:
        return value
    columns = value["columns"]
    newer = {name: part for name, part in value.items() if name != "columns"}
    return newer | {"settled": {"kind": "table", "columns": columns}} if columns else newer
