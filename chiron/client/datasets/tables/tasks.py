"""What a target's values make of a table: a classification or a regression, and which classes.

Labels are text first: `007` and `7` are two classes. Numbers are classes where they are few and count from
0 or 1, as codes of classes do; other whole numbers may be amounts, so their owner says.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from chiron.client.datasets.sources import MAX_CLASSES
from chiron.client.datasets.tables.cells import NA_WORDS
from chiron.client.datasets.tables.survey import Seen
from chiron.client.datasets.understood import Doubt
from chiron.client.errors import SourceInvalid
from chiron.wire.contract import Task

FEW_CLASSES = 100
"""Whole numbers from 0 or 1 with more distinct values than this may be amounts."""
_BOTH = ("--task classification", "--task regression")
_FRACTION = re.compile(r"[+-]?\d+\.\d*")
_WHOLE = re.compile(r"[+-]?\d+")


class Meant(NamedTuple):
    """A task, why it is that, and what is doubtful about it."""

    task: Task
    why: str
    doubts: tuple[Doubt, ...] = ()


def find_task(target: Seen, asked: Task | None) -> Meant:
    """What the target's values are for."""
    if asked is not None:
        return Meant(asked, "you said so")
    if target.kind == "number" and not target.codes:
        return _of_numbers(target)
    if target.kind == "date":
        says = f"the target {target.name!r} holds dates, which are no classes"
        doubt = Doubt("date-target", says, ("--target COLUMN", "--task classification"), target.name)
        return Meant(Task.CLASSIFICATION, "the targets are dates", (doubt,))
    if target.codes and target.kind == "number":
        return Meant(Task.CLASSIFICATION, "the targets are codes that begin with zeros")
    why = "the targets are truth values" if target.kind == "boolean" else "the targets are text"
    return Meant(Task.CLASSIFICATION, why)


def _of_numbers(target: Seen) -> Meant:
    if not target.whole:
        return Meant(Task.REGRESSION, "the targets are numbers with fractions")
    distinct = None if target.values is None else len(target.values)
    counted = distinct is not None and target.lowest in (0, 1) and target.highest <= 2 * distinct
    if distinct is not None and counted and distinct <= FEW_CLASSES and target.present >= 1.5 * distinct:
        return Meant(
            Task.CLASSIFICATION, f"the targets are {distinct} whole numbers from {target.lowest:.0f}"
        )
    many = "many" if distinct is None else f"{distinct}"
    says = f"the target {target.name!r} holds {many} different whole numbers: names of classes, or amounts?"
    guess = Task.REGRESSION if distinct is None or distinct > FEW_CLASSES else Task.CLASSIFICATION
    return Meant(guess, "the targets are whole numbers", (Doubt("task", says, _BOTH, target.name),))


def find_classes(target: Seen, source: str, unit: str = "line") -> tuple[tuple[str, int], ...]:
    """The classes and their examples, numbers in their order.

    Raises:
        SourceInvalid: there are too few or too many, or one of them is no name.
    """
    if target.values is None or not 2 <= len(target.values) <= MAX_CLASSES:
        found = f"more than {MAX_CLASSES}" if target.values is None else str(len(target.values))
        raise SourceInvalid(
            f"{source}: the target {target.name!r} holds {found} classes: 2 to {MAX_CLASSES} can be learnt"
        )
    if "newline" in target.first:
        place = target.first["newline"]
        raise SourceInvalid(
            f"{source}, {unit} {place}: a class whose name goes on over lines: is a quote not closed?"
        )
    return tuple(sorted(target.values.items(), key=lambda item: _order(item[0], target.kind == "number")))


def _order(name: str, numeric: bool) -> tuple[float, str]:
    try:
        return (float(name.replace(",", ".")) if numeric else 0.0), name
    except ValueError:
        return 0.0, name


def doubtful_names(column: str, names: Iterable[str]) -> tuple[Doubt, ...]:
    """What is doubtful about names of classes or categories: near-duplicates, words for a missing value."""
    names = list(names)
    doubts = []
    alike = defaultdict(list)
    for name in names:
        alike[" ".join(name.split()).casefold()].append(name)
    near = [same for same in alike.values() if len(same) > 1]
    if near:
        examples = "; ".join(", ".join(map(repr, sorted(same))) for same in near[:3])
        says = f"names in column {column!r} differ in blanks or case only ({examples})"
        doubts.append(Doubt("near-duplicates", says, (f"--keep {column!r}",), column))
    blanks = [name for name in names if name != name.strip()]
    if blanks and not near:
        says = f"names in column {column!r} begin or end with blanks, which are part of them ({blanks[0]!r})"
        doubts.append(Doubt("blanks", says, (f"--keep {column!r}",), column))
    doubts += _two_forms(column, names)
    words = sorted(set(names) & set(NA_WORDS))
    if words:
        says = f"column {column!r} holds {', '.join(map(repr, words))}: a name, or a missing value?"
        options = (" ".join(f"--na-value {word!r}" for word in words), f"--keep {column!r}")
        doubts.append(Doubt("missing-or-name", says, options, column))
    return tuple(doubts)


def _two_forms(column: str, names: Iterable[str]) -> list[Doubt]:
    """One number written as `1` and as `1.0`: two names."""
    names = set(names)
    fractions = {name for name in names if _FRACTION.fullmatch(name)}
    both = [
        name
        for name in fractions
        if _WHOLE.fullmatch(short := name.rstrip("0").rstrip(".")) and short in names
    ]
    if not both:
        return []
    says = f"column {column!r} holds the same number with and without a fraction, which are two names"
    return [Doubt("near-duplicates", says, (f"--keep {column!r}",), column)]
