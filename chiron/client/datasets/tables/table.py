"""A table as every reader gives it: names, and batches that know where each row lies in the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiron.client.datasets.understood import Doubt
from chiron.client.errors import SourceInvalid

BATCH_ROWS = 8192


class Batch(NamedTuple):
    """Some rows. A column is text as it is written, or numbers, truth values or times of a typed file."""

    columns: dict[str, pa.Array]
    places: NDArray[np.int64]
    """Where each row begins: its line, or its number in a file that has no lines. The first is 1."""


@dataclass(frozen=True)
class Table:
    """A table that is read from front to back, as often as need be."""

    name: str
    """Of its file, for errors."""
    names: tuple[str, ...]
    """Of its columns, in the file's order, each once."""
    batches: Callable[[], Iterator[Batch]]
    unit: str = "row"
    """What `Batch.places` counts: `line` or `row`."""
    decimal: str = "."
    """The decimal mark of numbers that are text."""
    na_values: tuple[str, ...] | None = None
    """Texts that mean a missing value, besides the empty one; None where nobody said."""
    index: tuple[str, ...] = ()
    """Columns that pandas wrote its row labels to."""
    unnamed: tuple[str, ...] = ()
    """Columns that have no name among columns that have one; they are called by their places."""
    named: bool = True
    """Whether the file itself names its columns."""
    facts: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()


def checked_names(name: str, names: list[str]) -> tuple[str, ...]:
    """Names of columns: one without a name is called by its place.

    Raises:
        SourceInvalid: two have the same name.
    """
    given = [text.strip() or unnamed(place) for place, text in enumerate(names, 1)]
    places: dict[str, list[int]] = {}
    for place, text in enumerate(given, 1):
        places.setdefault(text, []).append(place)
    twice = [
        f"columns {', '.join(map(str, at))} are all called {text!r}"
        for text, at in places.items()
        if len(at) > 1
    ]
    if twice:
        raise SourceInvalid(f"{name}: {'; '.join(twice)}: give each a name of its own")
    return tuple(given)


def unnamed(place: int) -> str:
    """What a column without a name is called."""
    return f"column {place}"


def first_place(batch: Batch, where: NDArray[np.bool_]) -> int | None:
    """Where the first of these rows lies; None if there is none."""
    found = np.flatnonzero(where)
    return int(batch.places[found[0]]) if len(found) else None
