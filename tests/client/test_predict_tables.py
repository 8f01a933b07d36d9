"""Rows to predict are found by name, answers are one row a row, and none is lost once it was paid for."""

import csv
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from chiron import (
    AnswerRefused,
    ArraySource,
    EncryptOptions,
    RowsInvalid,
    RowsOptions,
    ScoresNotFinite,
    SourceInvalid,
    encrypt,
    open_source,
    read_rows,
)
from chiron.cli.answers import Answers
from chiron.client.datasets.opening import SourceOptions
from chiron.client.datasets.rows import Rows
from chiron.client.errors import ConfigurationInvalid
from chiron.client.pass_file import read_pass
from chiron.client.predictions import Predictions
from tests.client.test_command import Shell, shell
from tests.client.test_sources import manifest_of
from tests.support.owners_world import World

__all__ = ["shell"]
BUNDLE = "patients.enc"


def patients(rows: int = 60) -> pd.DataFrame:
    """Who is ill has the larger dose and the smaller age."""
    random = np.random.default_rng(0)
    ill = np.arange(rows) % 2
    age = random.normal(60 - 30 * ill, 3).round(2)
    dose = random.normal(10 + 30 * ill, 3).round(2)
    ward = np.where(ill == 1, "east", "west")
    names = [f"P{number:03}" for number in range(rows)]
    return pd.DataFrame({"name": names, "outcome": ill, "age": age, "dose": dose, "ward": ward})


async def trained(shell: Shell) -> str:
    """The id of a job that learnt from them."""
    patients().to_csv("patients.csv", index=False)
    options = (
        "--target",
        "outcome",
        "--id",
        "name",
        "--categorical",
        "ward",
        "--fill-missing",
        "--keep",
        "ward",
    )
    code, _, err = await shell("data", "encrypt", "patients.csv", *options, "--out", BUNDLE)
    assert code == 0, err
    assert (await shell("data", "upload", BUNDLE))[0] == 0
    command = ("train", BUNDLE, "class-means", *shell.accept, "--exchanges", "1", "-y", "--json")
    code, out, err = await shell(*command)
    assert code == 0, err
    return str(json.loads(out.splitlines()[-1])["job"])


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


def read(path: str) -> str:
    return Path(path).read_text()


def exists(path: str) -> bool:
    return Path(path).exists()


def lines(path: str) -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


async def test_columns_are_found_by_name_and_ids_travel(shell: Shell) -> None:
    job = await trained(shell)
    order = ["ward", "outcome", "dose", "name", "age"]
    patients()[order].to_csv("new.csv", index=False, sep=";")
    code, out, err = await shell("predict", job, "new.csv", "--json", "--output", "out.csv")
    assert code == 0, err
    assert json.loads(out)["accuracy"] > 0.9
    found = lines("out.csv")
    assert [row["name (id)"] for row in found] == patients()["name"].tolist()
    assert (await shell("predict", job, "patients.csv", "--output", "known.csv"))[0] == 0
    assert found == lines("known.csv")
    assert list(found[0]) == ["row", "name (id)", "prediction", "score 0", "score 1"]
    patients()[["ward", "dose", "age"]].to_excel("new.xlsx", index=False)
    assert (await shell("predict", job, "new.xlsx", "--output", "sheet.csv"))[0] == 0
    assert [row["prediction"] for row in lines("sheet.csv")] == [row["prediction"] for row in found]


async def test_missing_and_unknown_columns_are_refused_by_name_before_anything_is_asked(shell: Shell) -> None:
    job = await trained(shell)
    answered = shell.world.enclaves.rows_answered
    patients().drop(columns=["age", "ward"]).assign(weight=1, shoe=42).to_csv("new.csv", index=False)
    code, _, err = await shell("predict", job, "new.csv", "--output", "out.csv")
    assert (code, "[source-invalid]" in err) == (1, True)
    assert all(repr(name) in err for name in ("age", "ward", "weight", "shoe"))
    patients().assign(shoe=42).to_csv("new.csv", index=False)
    assert (await shell("predict", job, "new.csv"))[0] == 1
    assert shell.world.enclaves.rows_answered == answered
    assert not exists("out.csv")
    code, _, err = await shell("predict", job, "new.csv", "--id", "shoe", "--output", "out.csv")
    assert code == 0, err
    assert {row["shoe"] for row in lines("out.csv")} == {"42"}
    assert (await shell("predict", job, "new.csv", "--drop", "shoe"))[0] == 0


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        ("age", "old", "line 3, column 'age': not a number"),
        ("age", "1e39", "line 3, column 'age': not a finite number"),
        ("age", "inf", "line 3, column 'age': not a finite number"),
        ("ward", "north", "line 3, column 'ward': a category that the training data has not"),
    ],
)
def test_a_cell_that_is_not_of_its_columns_kind_is_refused_by_its_place(
    tmp_path: Path, column: str, cell: str, says: str
) -> None:
    options = SourceOptions(target="outcome", ids=("name",), categorical=("ward",), keep=("ward",))
    described = open_source(patients(), options).description
    manifest = manifest_of(open_source(patients(), options))
    rows = patients(4).astype(object)
    rows.loc[1, column] = cell
    rows.to_csv(tmp_path / "new.csv", index=False)
    for show in (False, True):
        with pytest.raises(SourceInvalid) as caught:
            read_rows(
                tmp_path / "new.csv",
                manifest,
                described.class_names,
                described.settled,
                RowsOptions(show_values=show),
            )
        assert says in str(caught.value)
        assert (repr(cell) in str(caught.value)) == show


async def test_an_output_is_not_overwritten_unless_told_so(shell: Shell) -> None:
    job = await trained(shell)
    write("out.csv", "mine")
    answered = shell.world.enclaves.rows_answered
    code, _, err = await shell("predict", job, "patients.csv", "--output", "out.csv")
    assert (code, "[destination-exists]" in err) == (1, True)
    assert (shell.world.enclaves.rows_answered, read("out.csv")) == (answered, "mine")
    assert (await shell("predict", job, "patients.csv", "--output", "out.csv", "--force", "--long"))[0] == 0
    assert list(lines("out.csv")[0]) == ["row", "name (id)", "rank", "class", "name", "score"]
    assert len(lines("out.csv")) == 60 * 2


async def test_python_finds_columns_by_name_fills_and_refuses_what_is_not_finite(shell: Shell) -> None:
    job = await trained(shell)
    async with shell.world.client() as client:
        frame = patients()[["dose", "ward", "age"]]
        by_name = await client.predict(job, frame)
        assert np.mean(by_name.labels == patients()["outcome"]) > 0.9
        gaps = frame.assign(age=[np.nan, *frame["age"][1:]])
        settled = client.store.job(job).settled
        assert settled is not None
        fill = settled.columns[0].fill
        filled = await client.predict(job, frame.assign(age=[fill, *frame["age"][1:]]))
        np.testing.assert_array_equal((await client.predict(job, gaps)).scores, filled.scores)
        array = np.array([[np.nan, 40.0, 1.0, 0.0], [fill, 40.0, 1.0, 0.0]], np.float32)
        one, other = (await client.predict(job, array)).scores
        np.testing.assert_array_equal(one, other)
        with pytest.raises(SourceInvalid, match="'ward'"):
            await client.predict(job, frame.drop(columns="ward"))
        answered = shell.world.enclaves.rows_answered
        for bad in (np.inf, -np.inf):
            array[1, 1] = bad
            with pytest.raises(RowsInvalid, match="row 1, input 1") as caught:
                await client.predict(job, array)
            assert caught.value.code == "rows-not-finite"
        assert shell.world.enclaves.rows_answered == answered


async def test_a_pass_holder_has_the_names_and_the_operator_does_not(shell: Shell) -> None:
    job = await trained(shell)
    share = ("share", job, "--rows", "100", "--until", "3", "--out", "a.pass")
    code, _, err = await shell(*share)
    assert code == 0, err
    assert read_pass(Path("a.pass")).settled == shell.world.store.job(job).settled
    patients(6)[["dose", "ward"]].to_csv("new.csv", index=False)
    assert "'age'" in (await shell("predict", "--pass", "a.pass", "new.csv"))[2]
    state = b"".join(
        path.read_bytes() for path in (shell.world.directory / "state").rglob("*") if path.is_file()
    )
    seen = shell.world.store.job(job).spec.model_dump_json().encode() + state
    assert not [name for name in (b"dose", b"ward", b"east") if name in seen]


async def test_a_score_that_is_not_finite_is_an_error_and_no_class(shell: Shell) -> None:
    job = await trained(shell)
    means = shell.world.enclaves.means[job]
    means[0, 0] = np.nan
    async with shell.world.client() as client:
        with pytest.raises(ScoresNotFinite) as caught:
            await client.predict(job, patients(3))
    assert caught.value.code == "scores-not-finite"
    assert caught.value.predictions.labels.tolist() == [-1, -1, -1]
    code, _, err = await shell("predict", job, "patients.csv", "--output", "out.csv")
    assert (code, "[scores-not-finite]" in err) == (1, True)
    assert {row["prediction"] for row in lines("out.csv")} == {""}


def told(*labels: int) -> Predictions:
    classes = np.array([[label, 1 - label] for label in labels], np.int32)
    return Predictions(np.full((len(labels), 2), 0.5, np.float32), classes, ("no", "yes"))


def rows(count: int) -> Rows:
    return Rows(np.zeros((count, 1)), None, {"name": tuple(f"n{number}" for number in range(count))})


@pytest.mark.parametrize("failure", [AnswerRefused("gone"), KeyboardInterrupt()])
def test_what_was_answered_is_written_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("out.csv"), None):
        answers = Answers(rows(5), path)
        with pytest.raises(type(failure)):
            _fail(answers, failure)
        assert answers.path is not None
        assert [row["prediction"] for row in lines(str(answers.path))] == ["yes", "no", "", "yes", ""]
        assert [row["name (id)"] for row in lines(str(answers.path))] == ["n0", "n1", "n2", "n3", "n4"]


def _fail(answers: Answers, failure: BaseException) -> None:
    with answers:
        answers.keep(3, told(1))
        answers.keep(0, told(1, 0))
        raise failure


def test_a_file_that_nothing_was_written_to_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("old")
    for name in ("new.csv", "old.csv"):
        with pytest.raises(AnswerRefused), Answers(rows(1), tmp_path / name, force=True):
            raise AnswerRefused("gone")
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"
    with pytest.raises(ConfigurationInvalid):
        Answers(rows(1), tmp_path / "none" / "out.csv")


def test_a_disk_that_is_full_loses_no_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = iter([OSError(errno.ENOSPC, "No space left on device"), None])

    def sync(_: int) -> None:
        if error := next(full):
            raise error

    answers = Answers(rows(1), tmp_path / "new.csv")
    monkeypatch.setattr("os.fsync", sync)
    with pytest.raises(ConfigurationInvalid, match="answers are in") as caught, answers:
        answers.keep(0, told(1))
    assert answers.path is not None
    assert str(answers.path) in str(caught.value)
    assert lines(str(answers.path))[0]["prediction"] == "yes"
    answers.path.unlink()


def test_a_regression_has_a_column_a_number(tmp_path: Path) -> None:
    with Answers(rows(2), tmp_path / "out.csv") as answers:
        answers.keep(0, Predictions(np.array([1.5, np.nan], np.float32)))
    assert lines(str(tmp_path / "out.csv")) == [
        {"row": "0", "name (id)": "n0", "prediction": "1.5"},
        {"row": "1", "name (id)": "n1", "prediction": ""},
    ]


async def test_models_that_learnt_from_arrays_are_not_asked_with_tables(world: World, tmp_path: Path) -> None:
    frame: Any = pd.DataFrame({"a": [1.0], "b": [2.0]})
    arrays = ArraySource(np.zeros((4, 2), np.float32), [0, 1, 0, 1])
    made = encrypt(arrays, tmp_path / "d.enc", world.store, EncryptOptions())
    assert made.record.settled is None
    iris = encrypt(open_source("sklearn:iris"), tmp_path / "i.enc", world.store, EncryptOptions())
    assert iris.record.settled is not None
    with pytest.raises(SourceInvalid, match="trained on arrays"):
        read_rows(frame, made.record.manifest, made.record.class_names, made.record.settled)
    with pytest.raises(SourceInvalid, match="sepal length"):
        read_rows(frame, iris.record.manifest, iris.record.class_names, iris.record.settled)
    with pytest.raises(SourceInvalid, match="does not apply"):
        open_source("sklearn:iris", SourceOptions(ids=("a",)))
