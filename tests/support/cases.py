"""Inputs that once were damaged without a word or ended in a traceback, put through the real commands.

What is right for each is written down in `tests/cases/*.json`: an input is understood as said there, to the
last value, or refused with a stable code and a sentence that says what to do.
"""

import asyncio
import contextlib
import io
import json
import os
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from chiron import Bundle, OwnerStore
from chiron.cli.application import main
from chiron.client.schemas import TableSchema
from chiron.runtime.datasets import EncryptedDataset
from chiron.wire.contract import Task

CASES = Path(__file__).resolve().parent.parent / "cases"


class Verdict(StrEnum):
    """What became of one input."""

    RIGHT = "right"
    CLEAR_REFUSAL = "clear_refusals"
    SILENT = "silent"
    """Taken, and not as it is meant: the worst of all."""
    UNCLEAR = "unclear"
    """Refused without a word that helps, or though it is fine."""
    CRASH = "crashes"


@dataclass(frozen=True)
class Case:
    """One input, how it is given, and what is right."""

    file: str
    options: tuple[str, ...]
    wanted: dict[str, Any]

    @property
    def folder(self) -> str:
        """The fault that it is of."""
        return self.file.partition("/")[0]

    def __str__(self) -> str:
        return " ".join((self.file, *self.options))


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    exit_code: int | None
    """None after a traceback."""
    out: str
    err: str


def cases(kind: str | None = None) -> list[Case]:
    """All that is written down, or the part in `tests/cases/<kind>.json`."""
    files = sorted(CASES.glob("*.json")) if kind is None else [CASES / f"{kind}.json"]
    entries = [entry for file in files for entry in json.loads(file.read_text())]
    return [Case(entry.pop("file"), tuple(entry.pop("options", ())), entry) for entry in entries]


def run(*arguments: str) -> Ran:
    """The command `chiron` with these arguments, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except Exception:
            return Ran(None, out.getvalue(), err.getvalue() + traceback.format_exc())
    return Ran(code, out.getvalue(), err.getvalue())


def try_case(root: Path, case: Case) -> tuple[Verdict, str]:
    """What becomes of the input below `root`, and what is wrong about that."""
    return try_data(root, case)


def try_data(root: Path, case: Case) -> tuple[Verdict, str]:
    """Encrypt the input below `root`, decrypt what came out, and compare it with what is right."""
    with _store() as directory:
        bundle = directory / "out"
        ran = run("data", "encrypt", str(root / case.file), "--out", str(bundle), "--json", *case.options)
        if ran.exit_code is None:
            return Verdict.CRASH, ran.err
        if ran.exit_code != 0:
            return _refusal(case, ran)
        if "refused" in case.wanted:
            return Verdict.SILENT, "taken, though it should be refused"
        wrong = _differences(case.wanted["right"], json.loads(ran.out)["understood"], bundle)
        return (Verdict.SILENT, wrong) if wrong else (Verdict.RIGHT, "")


def _refusal(case: Case, ran: Ran) -> tuple[Verdict, str]:
    if "refused" not in case.wanted:
        return Verdict.UNCLEAR, f"refused, though it is fine: {ran.err}"
    lacking = [text for text in (f"[{case.wanted['refused']}]", *case.wanted["says"]) if text not in ran.err]
    return (Verdict.UNCLEAR, f"does not say {lacking}: {ran.err}") if lacking else (Verdict.CLEAR_REFUSAL, "")


def _differences(right: dict[str, Any], understood: dict[str, Any], bundle: Path) -> str:
    found: dict[str, Callable[[], Any]] = {
        "task": lambda: understood["task"],
        "target": lambda: understood["target"],
        "classes": lambda: {one["name"]: one["count"] for one in understood["classes"]},
        "columns": lambda: [column["name"] for column in understood["columns"]],
        "left_out": lambda: [c["name"] for c in understood["columns"] if c["encoded"].startswith("left out")],
        "input_shape": lambda: understood["input_shape"],
        "skipped": lambda: {part["reason"]: part["count"] for part in understood["skipped"]},
        "offsets": lambda: _offsets(bundle),
        "rows": lambda: _decrypted(bundle),
    }
    for name, wanted in right.items():
        is_ = found[name]()
        if _comparable(name, is_) != _comparable(name, wanted):
            return f"{name}: {is_!r}, not {wanted!r}"
    return ""


def _comparable(name: str, value: Any) -> Any:
    if name != "rows":
        return value
    # In any order: rows are shuffled.
    single = (
        (np.asarray(x, np.float32).tolist(), y if isinstance(y, str) else float(np.float32(y)))
        for x, y in value
    )
    return Counter(map(repr, single))


def _offsets(bundle: Path) -> dict[str, float]:
    settled = OwnerStore().dataset(Bundle.open(bundle).manifest.dataset_id).settled
    assert isinstance(settled, TableSchema)
    return {column.name: column.offset for column in settled.columns if column.offset}


def _decrypted(bundle: Path) -> list[tuple[Any, str | float]]:
    """All rows of an encrypted dataset: inputs, and the class by name or the number."""
    opened = Bundle.open(bundle)
    record = OwnerStore().dataset(opened.manifest.dataset_id)

    async def fetch(number: int) -> bytes:
        return opened.chunk(number)

    async def read() -> list[tuple[Any, str | float]]:
        dataset = EncryptedDataset(opened.manifest, record.key, fetch)
        rows: list[tuple[Any, str | float]] = []
        async for examples in dataset.read(range(opened.manifest.chunks)):
            for x, y in zip(examples.x, examples.y.tolist(), strict=True):
                known = opened.manifest.task is Task.CLASSIFICATION
                rows.append((x.tolist(), record.class_names[y] if known else y))
        return rows

    return asyncio.run(read())


@contextlib.contextmanager
def _store() -> Iterator[Path]:
    """A directory with an owner's store that is no one's."""
    before = os.environ.get("CHIRON_HOME")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["CHIRON_HOME"] = str(Path(directory) / "home")
        try:
            yield Path(directory)
        finally:
            os.environ.pop("CHIRON_HOME")
            if before is not None:
                os.environ["CHIRON_HOME"] = before
