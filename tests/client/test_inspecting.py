"""What was understood of a source is said before anything is encrypted, and what is doubtful is not taken."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chiron.cli.application import main
from chiron.client.datasets import ArraySource, Description, encrypt
from chiron.client.datasets.understood import Doubt, Understood
from chiron.client.errors import SourceDoubtful
from chiron.client.store import DatasetRecord, OwnerStore
from chiron.runtime.datasets import Examples
from tests.support.owners_world import World


def test_inspect_tells_all_and_encrypts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "sklearn:iris", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["task"], told["input_shape"]) == (150, "classification", [4])
    assert [(one["name"], one["count"]) for one in told["classes"]] == [
        ("setosa", 50),
        ("versicolor", 50),
        ("virginica", 50),
    ]
    assert main(["data", "inspect", "sklearn:digits"]) == 0
    block = capsys.readouterr().err
    assert "1,797" in block
    assert "1×8×8 float32" in block


class DoubtfulSource:
    """Arrays of which something must be said first."""

    def __init__(self) -> None:
        self._inner = ArraySource(np.zeros((4, 1), np.float32), [0, 1, 0, 1])

    @property
    def description(self) -> Description:
        doubt = Doubt("index-column", "column 'id' counts the rows", ("--drop id", "--keep id"), "id")
        inner = self._inner.description
        return replace(inner, told=replace(inner.understood, doubts=(doubt,)))

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        return self._inner.read(rows, size)


def test_nothing_doubtful_is_encrypted(tmp_path: Path) -> None:
    with pytest.raises(SourceDoubtful, match=r"counts the rows → --drop id or --keep id") as caught:
        encrypt(DoubtfulSource(), tmp_path / "out", OwnerStore(tmp_path / "store"))
    assert [doubt.code for doubt in caught.value.doubts] == ["index-column"]
    assert not (tmp_path / "out").exists()


def test_a_source_that_tells_nothing_is_described_all_the_same() -> None:
    told = Understood("data", 4, ArraySource([[1.0]] * 4, [0, 1] * 2).description.task, "", (1,), "float32")
    assert told.doubts == ()
    bare = replace(ArraySource([[1.0]] * 4, [0, 1] * 2).description, told=None).understood
    assert [one.name for one in bare.classes] == ["0", "1"]


def test_records_of_before_names_were_kept_can_be_read(world: World) -> None:
    record = world.encrypt().record
    older = record.model_dump(mode="json")
    del older["settled"]
    assert DatasetRecord.model_validate(older | {"columns": []}) == record
    columns = [{"name": "ward", "categories": ["east", "west"], "fill": 0.0}]
    read = DatasetRecord.model_validate(older | {"columns": columns})
    assert read.settled is not None
    assert read.settled.columns[0].kind.value == "categories"
