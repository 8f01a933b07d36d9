"""Tables that are put to a model: trained on one table, asked with others whose columns stand elsewhere."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cases import Ran, Verdict, run

Tried = tuple[str, Verdict, str]
RIGHT_AT_LEAST = 390
"""Of 400 rows: by position, 182 are right; by name, 399."""


def asked(folder: Path, place: Path, gateway: dict[str, str]) -> Iterator[Tried]:
    """Train on `patients.csv` with the builder in `two.onnx`, and ask with every other table.

    `gateway` is what `chiron serve --json` said; `place` is an empty directory.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CHIRON_HOME", str(place / "home"))
        environment.setenv("CHIRON_URL", gateway["url"])
        environment.setenv("CHIRON_API_KEY", gateway["operator_key"])
        builder = place / "builder"
        packing = ("--recipe", str(folder / "recipe.json"), "--name", "two", "--out", str(builder))
        _done(run("builder", "pack", str(folder / "two.onnx"), *packing))
        _done(run("builder", "upload", str(builder)))
        environment.setenv("CHIRON_API_KEY", gateway["owner_key"])
        yield from _answers(folder, place, _trained(folder, place, gateway))


def _trained(folder: Path, place: Path, gateway: dict[str, str]) -> str:
    """The id of a job that learnt who is ill."""
    bundle = str(place / "patients.enc")
    _done(run("data", "encrypt", str(folder / "patients.csv"), "--target", "outcome", "--out", bundle))
    _done(run("data", "upload", bundle))
    trust = ("--measurement", gateway["measurement"], "--trust-software-root", gateway["software_root"])
    trained = _done(run("train", bundle, "two", *trust, "--exchanges", "4", "--yes", "--json"))
    return str(json.loads(trained.out.splitlines()[-1])["job"])


def _answers(folder: Path, place: Path, job: str) -> Iterator[Tried]:
    with (folder / "patients.csv").open() as file:
        truth = [row["outcome"] for row in csv.DictReader(file)]
    for name in ("new_right.csv", "new_swapped.csv"):
        found = [row["prediction"] for row in _predicted(folder / name, place, job)]
        right = sum(a == b for a, b in zip(found, truth, strict=True))
        yield _verdict(name, right >= RIGHT_AT_LEAST, f"{right} of {len(truth)} are right")
    told = json.loads(_done(run("predict", job, str(folder / "patients.csv"), "--json")).out)
    wanted = RIGHT_AT_LEAST / len(truth)
    yield _verdict("patients.csv", told.get("accuracy", 0) >= wanted, "its outcome is taken for an input")
    (place / "rows.csv").write_text("age,weight\n30,70\n")
    (known,) = _predicted(place / "rows.csv", place, job)
    (swapped,) = _predicted(folder / "n1.csv", place, job)
    yield _verdict("n1.csv", swapped == known, "the columns are taken by position")
    yield _refused(
        "n2.csv", run("predict", job, str(folder / "n2.csv")), "'age'", "'weight'", "'height'", "'shoe'"
    )
    yield _refused("n4.csv", run("predict", job, str(folder / "n4.csv")), "'id'", "--id", "--drop")
    (named,) = _predicted(folder / "n4.csv", place, job, "--id", "id")
    as_known = {"id": "1001"} | known
    yield _verdict("n4.csv --id id", named == as_known, f"{named}, not {as_known}")


def _predicted(file: Path, place: Path, job: str, *options: str) -> list[dict[str, str]]:
    output = place / f"{file.stem}-answers.csv"
    _done(run("predict", job, str(file), "--output", str(output), "--force", *options))
    with output.open() as answers:
        return list(csv.DictReader(answers))


def _verdict(name: str, right: bool, otherwise: str) -> Tried:
    return f"predict-by-position/{name}", Verdict.RIGHT if right else Verdict.SILENT, otherwise


def _refused(name: str, ran: Ran, *says: str) -> Tried:
    tried = f"predict-by-position/{name}"
    if ran.exit_code is None:
        return tried, Verdict.CRASH, ran.err
    if ran.exit_code == 0:
        return tried, Verdict.SILENT, "answered, though it has not the model's columns"
    lacking = [text for text in says if text not in ran.err]
    return tried, Verdict.UNCLEAR if lacking else Verdict.CLEAR_REFUSAL, f"does not say {lacking}: {ran.err}"


def _done(ran: Ran) -> Ran:
    """What a command did that must go well.

    Raises:
        RuntimeError: it did not.
    """
    if ran.exit_code != 0:
        raise RuntimeError(ran.err)
    return ran
