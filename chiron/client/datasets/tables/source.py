"""A table as a source: one row an example, one column the target, the others inputs, ids or left out.

Tables are read twice from front to back, never whole: once to settle what they are, once to encrypt.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiron.client.datasets.sources import Description
from chiron.client.datasets.tables.conforming import conform
from chiron.client.datasets.tables.encoding import Encoder
from chiron.client.datasets.tables.opening import open_table
from chiron.client.datasets.tables.options import TableOptions
from chiron.client.datasets.tables.settling import settle
from chiron.client.datasets.tables.table import Batch, Table
from chiron.client.errors import SourceInvalid
from chiron.runtime.datasets import Examples
from chiron.wire.contract import Task

WINDOW_BATCHES = 4
"""Rows are mixed within this many batches."""


def table_source(source: Path | Any, options: TableOptions | None = None) -> "TableSource":
    """The table in a file, or a frame of pandas, polars or pyarrow.

    Raises:
        SourceInvalid: it cannot be read, or is nothing that can be learnt from.
    """
    chosen = options or TableOptions()
    return TableSource(open_table(source, chosen.reading), chosen)


class TableSource:
    """A table that is opened anew for each reading."""

    def __init__(self, table: Table, options: TableOptions) -> None:
        self._table = table
        settled = (
            settle(table, options) if options.schema is None else conform(table, options, options.schema)
        )
        self._task, self._class_names, self._schema = settled.task, settled.class_names, settled.schema
        self._encoder = Encoder(table, settled.schema.input_dtype, show_values=options.show_values)
        self.description = Description(
            task=settled.task,
            input_shape=settled.schema.input_shape,
            input_dtype=settled.schema.input_dtype,
            examples=settled.rows,
            class_names=settled.class_names,
            settled=settled.schema,
            told=settled.understood,
        )

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        """The rows numbered `rows`, mixed within a window; see `Source.read`. They decide the order, too."""
        self.description.understood.settled()
        chosen = np.zeros(self.description.examples, np.bool_)
        chosen[rows] = True
        random = np.random.default_rng(int(rows[0]) if len(rows) else 0)
        window: list[Examples] = []
        held = 0
        for examples in self._selected(chosen):
            window.append(examples)
            held += len(examples.x)
            while held >= WINDOW_BATCHES * size:
                mixed = _mixed(window, random)
                yield Examples(mixed.x[:size], mixed.y[:size])
                window = [Examples(mixed.x[size:], mixed.y[size:])]
                held -= size
        if window:
            mixed = _mixed(window, random)
            for start in range(0, len(mixed.x), size):
                yield Examples(mixed.x[start : start + size], mixed.y[start : start + size])

    def _selected(self, chosen: NDArray[np.bool_]) -> Iterator[Examples]:
        start = 0
        for batch in self._table.batches():
            mask = chosen[start : start + len(batch.places)]
            start += len(batch.places)
            if mask.any():
                yield self._examples(_filtered(batch, mask))
        if start != len(chosen):
            raise SourceInvalid(f"{self._table.name} changed while it was read")

    def _examples(self, batch: Batch) -> Examples:
        x = self._encoder.inputs(batch, self._schema.columns).reshape(-1, *self._schema.input_shape)
        target = self._schema.target or ""
        if self._task is Task.CLASSIFICATION:
            return Examples(x, self._encoder.classes(batch, target, self._class_names))
        return Examples(x, self._encoder.targets(batch, target))


def _filtered(batch: Batch, mask: NDArray[np.bool_]) -> Batch:
    chosen = pa.array(mask)
    return Batch({name: values.filter(chosen) for name, values in batch.columns.items()}, batch.places[mask])


def _mixed(window: list[Examples], random: np.random.Generator) -> Examples:
    x = np.concatenate([part.x for part in window])
    y = np.concatenate([part.y for part in window])
    order = random.permutation(len(x))
    return Examples(x[order], y[order])
