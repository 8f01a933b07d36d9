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


class Distinct(NamedTuple):
    """A column's different cells in a batch: what they mean is found out once for each."""

    values: pa.Array
    """In the order in which they are first met."""
    places: NDArray[np.int64]
    """Where each is first."""
    indices: NDArray[np.int64]
    """Of each row, which of the values it has."""
    counts: NDArray[np.int64]
    """Of each value, how many rows have it."""

    @classmethod
    def of(cls, values: pa.Array, places: NDArray[np.int64]) -> "Distinct":
        """The different cells of a column."""
        if pa.types.is_null(values.type):
            values = values.cast(pa.string())
        encoded = values.dictionary_encode(null_encoding="encode")
        indices = np.asarray(encoded.indices).astype(np.int64)
        _, first, counts = np.unique(indices, return_index=True, return_counts=True)
        return cls(encoded.dictionary, places[first], indices, counts)


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
    untyped: bool = False
    """Whether all is text, the names too, so that either may be taken for the other."""
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


def first_place(places: NDArray[np.int64], where: NDArray[np.bool_]) -> int | None:
    """The first of these places at which it is so; None if it is nowhere."""
    found = np.flatnonzero(where)
    return int(places[found[0]]) if len(found) else None
