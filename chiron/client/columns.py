"""How a table's columns become numbers: decided when the table is encrypted, the same for rows to predict."""

from typing import Self

from pydantic import Field, model_validator

from chiron.wire.encoding import WireModel

MAX_CATEGORIES = 1000
"""Of one column."""


class Column(WireModel):
    """One input column: a number, or one of `categories`, which becomes that many numbers."""

    name: str
    categories: tuple[str, ...] = Field(default=(), max_length=MAX_CATEGORIES)
    """One-hot in this order; none for a column of numbers."""
    fill: float | None = Field(default=None, allow_inf_nan=False)
    """What stands for a missing number; without it, a missing value is refused. For a missing category, all
    its numbers are 0."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.categories) != sorted(set(self.categories)):
            raise ValueError("categories must ascend")
        return self

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.categories) or 1
