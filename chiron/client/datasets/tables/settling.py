"""Settles what a table is: by its owner's options, by what every row of it says, and by nothing else.

What could be meant in more than one way becomes a doubt. Then the schema is what would be taken, and nobody
takes it before an option has settled the doubt.
"""

from math import prod
from typing import NamedTuple

from chiron.client.datasets.tables.inputs import Input, escape_doubts, find_input
from chiron.client.datasets.tables.options import TableOptions
from chiron.client.datasets.tables.roles import Roles, find_roles
from chiron.client.datasets.tables.survey import Seen, Survey
from chiron.client.datasets.tables.table import Table
from chiron.client.datasets.tables.tasks import doubtful_names, find_classes, find_task
from chiron.client.datasets.understood import ClassCount, ColumnFacts, Doubt, Understood
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Column, ColumnKind, TableSchema
from chiron.wire.contract import Task

ROWS_OF_A_TWIN = 10
"""In fewer, a column may agree with the target by chance."""


class Settlement(NamedTuple):
    """What a table is."""

    task: Task
    class_names: tuple[str, ...]
    schema: TableSchema
    rows: int
    understood: Understood


def settle(table: Table, options: TableOptions) -> Settlement:
    """Read the table once and settle what it is.

    Raises:
        SourceInvalid: it is nothing that can be learnt from.
    """
    roles = find_roles(table, options)
    survey = Survey(table, roles.target, options.categorical)
    if survey.rows == 0:
        raise SourceInvalid(f"{table.name} has no rows")
    target = survey.columns[roles.target]
    meant = find_task(target, options.task)
    _check_target(table, target, meant.task)
    classes = find_classes(target, table.name, table.unit) if meant.task is Task.CLASSIFICATION else ()
    inputs = [find_input(survey.columns[name], options, table.unit) for name in roles.inputs]
    columns = tuple(found.column for found in inputs if found.column is not None)
    schema = _schema(table, roles, columns, options)
    doubts = (
        *table.doubts,
        *roles.doubts,
        *meant.doubts,
        *_target_doubts(target, meant.task, options),
        *(doubt for found in inputs for doubt in found.doubts),
        *_table_doubts(table, roles, survey, options),
    )
    _require_inputs(table, schema, doubts)
    understood = Understood(
        source=table.name,
        rows=survey.rows,
        task=meant.task,
        task_why=meant.why,
        input_shape=schema.input_shape,
        input_dtype=options.input_dtype.value,
        target=roles.target,
        target_why=roles.target_why,
        classes=tuple(ClassCount(name, count) for name, count in classes),
        columns=_facts(table, roles, survey, dict(zip(roles.inputs, inputs, strict=True))),
        facts=table.facts,
        remarks=(
            *table.remarks,
            *_remarks(survey, classes, target),
            *(r for found in inputs for r in found.remarks),
        ),
        doubts=doubts,
    )
    return Settlement(meant.task, tuple(name for name, _ in classes), schema, survey.rows, understood)


def _schema(table: Table, roles: Roles, columns: tuple[Column, ...], options: TableOptions) -> TableSchema:
    width = sum(column.width for column in columns)
    return TableSchema(
        reading=options.reading,
        order=table.names,
        target=roles.target,
        columns=columns,
        ids=roles.ids,
        dropped=roles.dropped,
        input_shape=options.input_shape or (width,),
        input_dtype=options.input_dtype,
    )


def _require_inputs(table: Table, schema: TableSchema, doubts: tuple[Doubt, ...]) -> None:
    width = sum(column.width for column in schema.columns)
    if prod(schema.input_shape) != width and not doubts:
        raise SourceInvalid(
            f"{table.name}: {width} input numbers cannot be shaped {list(schema.input_shape)}"
        )


def _check_target(table: Table, target: Seen, task: Task) -> None:
    """Refuse a target that is missing, or no number where one is needed.

    Raises:
        SourceInvalid: so it is; the message names the first place.
    """
    where = f"{table.name}, {table.unit}"
    gone = target.missing + (target.words if task is Task.REGRESSION else 0)
    if gone:
        place = target.first["missing"]
        raise SourceInvalid(
            f"{where} {place}: the target {target.name!r} is missing ({gone} rows in all)",
            code="source-not-finite",
        )
    if task is Task.CLASSIFICATION:
        return
    if target.kind != "number":
        hint = ": --decimal , if it has decimal commas" if target.commas else ""
        place = target.first.get("not-a-number", 1)
        raise SourceInvalid(f"{where} {place}: the target {target.name!r} is not a number{hint}")
    if "infinite" in target.first:
        place = target.first["infinite"]
        raise SourceInvalid(
            f"{where} {place}: the target {target.name!r} is infinite", code="source-not-finite"
        )
    span, most = target.highest - target.lowest, max(abs(target.lowest), abs(target.highest))
    if "inexact" in target.first or (span > 0 and most > span * 2**16):
        raise SourceInvalid(
            f"{table.name}: the target {target.name!r} holds large numbers that lie close together: 32 "
            "bits do not tell them apart. Take a constant from them first"
        )


def _target_doubts(target: Seen, task: Task, options: TableOptions) -> tuple[Doubt, ...]:
    if task is Task.REGRESSION or target.name in options.keep:
        return ()
    doubts = doubtful_names(target.name, target.values or ())
    if target.quoted:
        says = f"classes in column {target.name!r} stand between apostrophes"
        doubts += (Doubt("quote", says, ('--quote "\'"', f"--keep {target.name!r}"), target.name),)
    return doubts + escape_doubts(target)


def _table_doubts(table: Table, roles: Roles, survey: Survey, options: TableOptions) -> tuple[Doubt, ...]:
    doubts = []
    if survey.rows >= ROWS_OF_A_TWIN:
        for name in survey.twins.names():
            if (
                name in roles.inputs
                and name not in options.keep
                and (survey.columns[name].values or {}) != {}
            ):
                says = f"column {name!r} tells the target in every row: a model would learn nothing else"
                doubts.append(Doubt("leak", says, (f"--drop {name!r}", f"--keep {name!r}"), name))
    for name in table.unnamed:
        counted = name in table.index and survey.columns[name].counts_rows
        if name in options.drop or name in options.keep or name in options.ids or counted:
            continue
        says = f"column {name.removeprefix('column ')} has no name"
        options_of = (f"--drop {name!r}", f"--id {name!r}", f"--keep {name!r}")
        doubts.append(Doubt("unnamed", says, options_of, name))
    if table.named and table.untyped and options.reading.header is None:
        doubts += _header_doubts(survey)
    return tuple(doubts)


def _header_doubts(survey: Survey) -> list[Doubt]:
    """A name that is one of its column's values, where all is text: the first row of data?"""
    found = [
        seen.name
        for seen in survey.columns.values()
        if seen.kind == "text" and seen.name in (seen.values or {})
    ]
    if not found:
        return []
    says = f"the name {found[0]!r} is one of its column's values, too: does the first line name the columns?"
    return [Doubt("header", says, ("--no-header", "--header"), found[0])]


def _remarks(survey: Survey, classes: tuple[tuple[str, int], ...], target: Seen) -> tuple[str, ...]:
    remarks = []
    if equal := survey.equal_rows():
        remarks.append(f"{equal:,} rows are equal to an earlier one")
    if classes and target.codes:
        remarks.append("names of classes that begin with zeros are taken as they are written")
    lone = sum(count == 1 for _, count in classes)
    if lone:
        remarks.append(f"{lone} classes have a single example")
    return tuple(remarks)


def _facts(table: Table, roles: Roles, survey: Survey, inputs: dict[str, Input]) -> tuple[ColumnFacts, ...]:
    return tuple(_column_facts(table, roles, survey.columns[name], inputs.get(name)) for name in table.names)


def _column_facts(table: Table, roles: Roles, seen: Seen, found: Input | None) -> ColumnFacts:
    encoded = "left out: row labels" if seen.name in table.index else "left out"
    if seen.name == roles.target:
        encoded = "target"
    elif seen.name in roles.ids:
        encoded = "id"
    elif found is not None:
        encoded = _encoded(found.column)
    number = seen.kind == "number" and seen.numbers > 0
    return ColumnFacts(
        name=seen.name,
        type=seen.typed or seen.kind,
        encoded=encoded,
        missing=seen.missing,
        lowest=seen.lowest if number else None,
        highest=seen.highest if number else None,
        distinct=None if seen.values is None else len(seen.values),
    )


def _encoded(column: Column | None) -> str:
    if column is None:
        return "not settled"
    if column.kind is ColumnKind.CATEGORIES:
        return f"{column.width} numbers, one a category"
    if column.kind is ColumnKind.DATE:
        return ", ".join(column.parts)
    parts = ["1 or 0" if column.kind is ColumnKind.BOOLEAN else "a number"]
    if column.offset:
        parts.append(f"less {column.offset:.17g}")
    if column.fill is not None:
        parts.append(f"missing becomes {column.fill:.6g}")
    return ", ".join(parts)
