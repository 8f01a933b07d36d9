"""What was understood of a source, for its owner to read before anything is encrypted.

Nobody else can look at the data. So a guess that may be wrong is a doubt: it is not taken until an option
settles it.
"""

from dataclasses import dataclass, field

from chiron.client.errors import SourceDoubtful
from chiron.wire.contract import Task

EXAMPLES_SHOWN = 3
"""Names that stand for all that were skipped for one reason."""
FEW_EXAMPLES = 10
"""A class with fewer is told first."""


@dataclass(frozen=True)
class Doubt:
    """A guess that is not taken."""

    code: str
    """Stable, such as `index-column`."""
    says: str
    """What was seen, in one sentence."""
    settle: tuple[str, ...]
    """Options that settle it, the likeliest first."""
    about: str = ""
    """The column, class or folder, if it is about one."""


@dataclass(frozen=True)
class ColumnFacts:
    """One column of a table."""

    name: str
    type: str
    """Such as `number`, `text` or `date`."""
    encoded: str
    """What becomes of it: `1 number`, `4 numbers, one-hot`, `left out`, `id`, `target`."""
    missing: int = 0
    lowest: float | str | None = None
    highest: float | str | None = None
    distinct: int | None = None
    """None where there are too many to count."""


@dataclass(frozen=True)
class ClassCount:
    """A class and its examples."""

    name: str
    count: int | None
    """None where nobody counted."""


@dataclass(frozen=True)
class Skipped:
    """What is not taken, for one reason."""

    reason: str
    count: int
    examples: tuple[str, ...]
    """A few of their names."""


@dataclass(frozen=True)
class Understood:
    """All that is said of a source at the door."""

    source: str
    rows: int
    task: Task
    task_why: str
    input_shape: tuple[int, ...]
    input_dtype: str
    target: str | None = None
    target_why: str = ""
    classes: tuple[ClassCount, ...] = ()
    """In the order of their indices."""
    columns: tuple[ColumnFacts, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    """What else a reader of this kind found: delimiter and encoding of a table, sizes and modes of images."""
    skipped: tuple[Skipped, ...] = ()
    remarks: tuple[str, ...] = ()
    """What is worth a look, and needs no answer."""
    doubts: tuple[Doubt, ...] = ()

    def settled(self) -> None:
        """Refuse what is doubtful.

        Raises:
            SourceDoubtful: a guess would have to be taken.
        """
        if self.doubts:
            raise SourceDoubtful(self.source, self.doubts)


def skipped(reason: str, names: list[str]) -> Skipped:
    """What is not taken for `reason`."""
    return Skipped(reason, len(names), tuple(sorted(names)[:EXAMPLES_SHOWN]))


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as people write it: `3×32×32`."""
    return "×".join(map(str, shape)) or "1"
