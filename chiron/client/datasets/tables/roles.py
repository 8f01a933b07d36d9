"""What each column of a table is: the target, an id, left out, or an input."""

from collections.abc import Iterable
from dataclasses import dataclass

from chiron.client.datasets.tables.options import TableOptions
from chiron.client.datasets.tables.table import Table
from chiron.client.datasets.understood import Doubt
from chiron.client.errors import SourceInvalid

TARGET_NAMES = ("target", "label", "labels", "class", "outcome", "y", "diagnosis")
"""What people call a column to predict."""


@dataclass(frozen=True)
class Roles:
    """Names of columns by what they are."""

    target: str
    target_why: str
    ids: tuple[str, ...]
    dropped: tuple[str, ...]
    inputs: tuple[str, ...]
    doubts: tuple[Doubt, ...] = ()


def find_roles(table: Table, options: TableOptions) -> Roles:
    """What the columns are by the options; what is not said, by name and place.

    Raises:
        SourceInvalid: an option names a column that is not there, or one column is two things.
    """
    _check_names(table, options)
    ids = options.ids
    unnamed_index = [name for name in table.index if name not in (*options.keep, *ids, *_named(options))]
    dropped = tuple(name for name in table.names if name in (*options.drop, *unnamed_index))
    left = [name for name in table.names if name not in (*ids, *dropped)]
    if not left:
        raise SourceInvalid(f"{table.name} has no column left to predict")
    target, why, doubts = _target(table, left, options)
    inputs = tuple(name for name in left if name != target)
    if not inputs:
        hint = "" if len(table.names) > 1 else ": are its cells divided by another mark (--delimiter)?"
        raise SourceInvalid(f"{table.name} has no input column besides {target!r}{hint}")
    return Roles(target, why, ids, dropped, inputs, doubts)


def _target(table: Table, left: list[str], options: TableOptions) -> tuple[str, str, tuple[Doubt, ...]]:
    if options.target is not None:
        return options.target, "you said so", ()
    last = left[-1]
    called = [name for name in left if name.lower() in TARGET_NAMES]
    if called and last not in called:
        says = f"column {called[0]!r} is called like a target, and the last one is {last!r}"
        names = (*called, last)
        return (
            last,
            "the last column",
            (Doubt("target", says, tuple(f"--target {name!r}" for name in names), last),),
        )
    return last, "the last column", ()


def _named(options: TableOptions) -> tuple[str, ...]:
    given = (options.target,) if options.target is not None else ()
    return (*given, *options.categorical, *(name for name, _ in options.dates))


def _check_names(table: Table, options: TableOptions) -> None:
    unknown = sorted({*_named(options), *options.drop, *options.keep, *options.ids} - set(table.names))
    if unknown:
        raise SourceInvalid(f"{table.name} has no column {', '.join(map(repr, unknown))}")
    target = () if options.target is None else (options.target,)
    once = [*target, *options.ids, *options.drop, *options.categorical, *(name for name, _ in options.dates)]
    twice = sorted({name for name in once if once.count(name) > 1} | _both(options.keep, options.drop))
    if twice:
        raise SourceInvalid(f"options say two things of column {', '.join(map(repr, twice))}")


def _both(first: Iterable[str], second: Iterable[str]) -> set[str]:
    return set(first) & set(second)
