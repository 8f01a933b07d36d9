"""Takes a table as an earlier one was settled, and finds a new file's columns by name for prediction."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.client.datasets.tables import cells
from chiron.client.datasets.tables.encoding import Encoder
from chiron.client.datasets.tables.options import TableOptions
from chiron.client.datasets.tables.settling import Settlement
from chiron.client.datasets.tables.survey import Survey
from chiron.client.datasets.tables.table import Batch, Table
from chiron.client.datasets.understood import ClassCount, ColumnFacts, Understood
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import SchemaFile, TableSchema
from chiron.wire.contract import Task


class TableRows(NamedTuple):
    """Rows of a table as a model takes them."""

    x: NDArray[np.generic]
    y: NDArray[np.generic] | None
    """Targets, where the table has them: -1 or NaN for a row that has none, or a class that is not known."""
    ids: dict[str, tuple[str, ...]]
    """A text a row, by column."""


def conform(table: Table, options: TableOptions, file: SchemaFile) -> Settlement:
    """The table as `file` says: the same columns, order, categories, fills and classes.

    Raises:
        SourceInvalid: it does not fit; the message names the columns or the place.
    """
    schema = file.settled
    target = schema.target or ""
    named = matched(table, schema, ids=(), drop=())
    if target not in named.names:
        raise SourceInvalid(f"{table.name} has no target column {target!r}")
    encoder = Encoder(named, schema.input_dtype, show_values=options.show_values)
    survey = Survey(named, target)
    if survey.rows == 0:
        raise SourceInvalid(f"{table.name} has no rows")
    for batch in named.batches():
        encoder.inputs(batch, schema.columns)
        if file.task is Task.CLASSIFICATION:
            encoder.classes(batch, target, file.class_names)
        else:
            encoder.targets(batch, target)
    counts: dict[str, int] = dict(survey.columns[target].values or {})
    understood = Understood(
        source=table.name,
        rows=survey.rows,
        task=file.task,
        task_why="the schema says so",
        input_shape=schema.input_shape,
        input_dtype=schema.input_dtype.value,
        target=target,
        target_why="the schema says so",
        classes=tuple(ClassCount(name, counts.get(name, 0)) for name in file.class_names),
        columns=tuple(
            ColumnFacts(column.name, column.kind.value, f"{column.width} numbers, as the schema says")
            for column in schema.columns
        ),
        facts=table.facts,
    )
    return Settlement(file.task, file.class_names, schema, survey.rows, understood)


def matched(table: Table, schema: TableSchema, *, ids: tuple[str, ...], drop: tuple[str, ...]) -> Table:
    """The table, if it has all inputs of the schema and nothing that the schema does not know.

    Where the training file had no names, neither has this one: then its columns are in the same order, with
    the target or without.

    Raises:
        SourceInvalid: columns are missing or unknown; the message names them.
    """
    if schema.reading.header is False and not table.named:
        return _by_place(table, schema)
    inputs = [column.name for column in schema.columns]
    lacking = [name for name in (*inputs, *ids, *drop) if name not in table.names]
    known = {*inputs, *schema.ids, *schema.dropped, *ids, *drop, *table.index, schema.target}
    unknown = [name for name in table.names if name not in known]
    if schema.target is None and len(unknown) == 1:
        # A record of before targets' names were kept: the one column more is the target.
        unknown = []
    told = []
    if lacking:
        told.append(f"it lacks {_named(lacking)}")
    if unknown:
        told.append(
            f"the model does not know {_named(unknown)} (--drop COLUMN, or --id COLUMN for the output)"
        )
    if told:
        raise SourceInvalid(f"{table.name} does not fit the training data's columns: {'; '.join(told)}")
    return table


def read_matched(
    table: Table,
    schema: TableSchema,
    task: Task,
    class_names: tuple[str, ...],
    *,
    ids: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
    show_values: bool = False,
) -> TableRows:
    """All rows of a table for prediction, in its order.

    Raises:
        SourceInvalid: it does not fit; the message names the columns or the place.
    """
    fitting = matched(table, schema, ids=ids, drop=drop)
    known = {column.name for column in schema.columns} | {
        *schema.ids,
        *schema.dropped,
        *ids,
        *drop,
        *table.index,
    }
    extra = [name for name in fitting.names if name not in known]
    target = extra[0] if extra and (schema.target is None or extra[0] == schema.target) else None
    encoder = Encoder(fitting, schema.input_dtype, show_values=show_values)
    kept = [name for name in (*schema.ids, *ids) if name in fitting.names]
    x: list[NDArray[np.generic]] = []
    y: list[NDArray[np.generic]] = []
    found: dict[str, list[str]] = {name: [] for name in kept}
    for batch in fitting.batches():
        x.append(encoder.inputs(batch, schema.columns))
        if target is not None:
            y.append(_targets(encoder, batch, target, task, class_names))
        for name in kept:
            found[name] += [text or "" for text in cells.labels(batch.columns[name]).to_pylist()]
    if not x:
        raise SourceInvalid(f"{table.name} has no rows")
    rows = np.concatenate(x).reshape(-1, *schema.input_shape)
    return TableRows(
        rows, np.concatenate(y) if y else None, {name: tuple(texts) for name, texts in found.items()}
    )


def _targets(
    encoder: Encoder, batch: Batch, target: str, task: Task, class_names: tuple[str, ...]
) -> NDArray[np.generic]:
    if task is Task.CLASSIFICATION:
        return encoder.classes(batch, target, class_names, unknown=True)
    return encoder.targets(batch, target, unknown=True)


def _by_place(table: Table, schema: TableSchema) -> Table:
    without = tuple(name for name in schema.order if name != schema.target)
    if len(table.names) == len(schema.order):
        return table
    if len(table.names) != len(without):
        wanted = f"{len(without)} or, with the target, {len(schema.order)}"
        raise SourceInvalid(f"{table.name} has {len(table.names)} columns: the training data had {wanted}")
    renamed = dict(zip(table.names, without, strict=True))

    def batches() -> Iterator[Batch]:
        for batch in table.batches():
            yield Batch({renamed[name]: values for name, values in batch.columns.items()}, batch.places)

    return replace(table, names=without, batches=batches)


def _named(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:20]))
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown
