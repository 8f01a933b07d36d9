"""What a predictor answered, as a table: one row a row, written even if a later query fails.

The file is opened before anything is asked, and an older one is replaced only on request: answers count
against a budget whether or not they can be written.
"""

import csv
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from chiron import Predictions, Rows

MAX_CLASS_COLUMNS = 10_000
"""More classes are written in the long form only."""
_OURS = ("row", "prediction", "rank", "class", "name", "score")


class Answers:
    """Collects answers as they come, and writes them when the block ends, however it ends.

    Without a path they are written only if the block fails: then into a file of their own, beside where the
    command runs.
    """

    def __init__(
        self, asked: "Rows", path: Path | None = None, *, force: bool = False, long: bool = False
    ) -> None:
        """
        Raises:
            ConfigurationInvalid: the path exists and may not be replaced, or cannot be written.
        """
        self._asked = asked
        self._long = long
        self._parts: dict[int, Predictions] = {}
        self.path = path
        """Where the answers are, once the block has ended."""
        self._place: Path | None = None
        self._file: IO[str] | None = None
        if path is not None:
            replaced = force and path.exists()
            self._place = path.with_name(f".{path.name}.{os.getpid()}.part") if replaced else path
            self._file = _opened(self._place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._place is not None and self.path is not None:
            self._close(self._file, self._place, self.path)
        elif error is not None and self._parts:
            self._rescue(Path.cwd())

    def _close(self, file: IO[str], place: Path, path: Path) -> None:
        from chiron import ConfigurationInvalid

        try:
            with file:
                self._write(file)
            if not self._parts:
                place.unlink()
            elif place != path:
                place.replace(path)
        except OSError as error:
            self._rescue(Path(tempfile.gettempdir()))
            raise ConfigurationInvalid(
                f"{path} could not be written ({error.strerror}): the answers are in {self.path}"
            ) from error

    def _rescue(self, directory: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix="answers-", suffix=".csv", dir=directory)
        self.path = Path(name)
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as file:
            self._write(file)

    def _write(self, file: IO[str]) -> None:
        if self._parts:
            csv.writer(file).writerows(self._lines())
            file.flush()
            os.fsync(file.fileno())

    def keep(self, start: int, predictions: "Predictions") -> None:
        """Take in answers to the rows from number `start` on."""
        self._parts[start] = predictions

    def __len__(self) -> int:
        """Rows that were answered."""
        return sum(int(part.told.sum()) for part in self._parts.values())

    def _lines(self) -> Iterator[list[Any]]:
        first = next(iter(self._parts.values()))
        heads = ["row", *_heads(self._asked.ids)]
        told = sorted({index for part in self._parts.values() for index in _classes(part)})
        if first.classes is None:
            size = first.scores[0].size
            yield [
                *heads,
                *(["prediction"] if size == 1 else [f"prediction {place}" for place in range(size)]),
            ]
            yield from self._numbers(size)
        elif self._long or len(told) > MAX_CLASS_COLUMNS:
            yield [*heads, "rank", "class", "name", "score"]
            yield from self._ranks()
        else:
            yield [*heads, "prediction", *(f"score {first.name_of(index)}" for index in told)]
            yield from self._wide(told)

    def _numbers(self, size: int) -> Iterator[list[Any]]:
        for row, part, at in self._rows():
            answered = part is not None and part.told[at]
            numbers = part.scores[at].ravel().tolist() if part is not None and answered else [""] * size
            yield [row, *self._ids(row), *numbers]

    def _wide(self, classes: list[int]) -> Iterator[list[Any]]:
        """The likeliest class, and a score for each class that was told."""
        for row, part, at in self._rows():
            scores: dict[int, float] = {}
            if part is not None and part.classes is not None and part.told[at]:
                scores = dict(zip(part.classes[at].tolist(), part.scores[at].tolist(), strict=True))
            name = part.name_of(int(part.labels[at])) if part is not None and scores else ""
            yield [row, *self._ids(row), name, *(scores.get(index, "") for index in classes)]

    def _ranks(self) -> Iterator[list[Any]]:
        for row, part, at in self._rows():
            if part is None or part.classes is None or not part.told[at]:
                continue
            ranked = zip(part.classes[at].tolist(), part.scores[at].tolist(), strict=True)
            for rank, (index, score) in enumerate(ranked, 1):
                yield [row, *self._ids(row), rank, index, part.name_of(index), score]

    def _rows(self) -> "Iterator[tuple[int, Predictions | None, int]]":
        """Every row that was to be asked for: its number, the part that has its answer, and where in it."""
        at = 0
        for start in sorted(self._parts):
            yield from ((row, None, 0) for row in range(at, start))
            part = self._parts[start]
            yield from ((start + place, part, place) for place in range(len(part)))
            at = start + len(part)
        yield from ((row, None, 0) for row in range(at, len(self._asked.x)))

    def _ids(self, row: int) -> list[str]:
        return [texts[row] for texts in self._asked.ids.values()]


def _classes(part: "Predictions") -> list[int]:
    import numpy as np

    return [] if part.classes is None else np.unique(part.classes).tolist()


def _heads(ids: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [f"{name} (id)" if name in _OURS or name.startswith("score ") else name for name in ids]


def _opened(path: Path) -> IO[str]:
    from chiron import ConfigurationInvalid

    try:
        return path.open("x", newline="", encoding="utf-8")
    except FileExistsError:
        raise ConfigurationInvalid(
            f"{path} exists: name another file, or replace it (--force)", code="destination-exists"
        ) from None
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be written: {error.strerror}") from error
