"""Tables of every form come to the same rows; what is doubtful is told with the options that settle it."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest

from chiron.cli.application import main
from chiron.client.datasets import SourceOptions, open_source
from chiron.client.datasets.rows import read_rows
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Reading
from tests.client.test_sources import manifest_of, read_all

FRAME = pd.DataFrame({"x": [1.5, 2.0, 4.0], "f": [True, False, True], "y": ["a", "b", "a"]})
ROWS = [([1.5, 1.0], "a"), ([2.0, 0.0], "b"), ([4.0, 1.0], "a")]
DELIMITED = "a,b\n1,x\n2,y\n"


def rows_of(source: Any) -> list[tuple[list[float], str]]:
    examples, names = read_all(source), source.description.class_names
    return sorted((x, names[y]) for x, y in zip(examples.x.tolist(), examples.y.tolist(), strict=True))


def doubts_of(text: str | bytes, tmp_path: Path, **options: Any) -> list[str]:
    """The codes of what is doubtful about a file of this text."""
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        understood = open_source(path, SourceOptions(**options)).description.understood
    except SourceInvalid as error:
        return [doubt.code for doubt in getattr(error, "doubts", ())] or [error.code]
    return [doubt.code for doubt in understood.doubts]


def test_every_form_of_a_table_comes_to_the_same_rows(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    FRAME.to_csv(tmp_path / "b.tsv", sep="\t")
    FRAME.to_excel(tmp_path / "c.xlsx")
    FRAME.set_index(pd.Index([7, 8, 9])).to_parquet(tmp_path / "d.parquet")
    pyarrow.feather.write_feather(pa.Table.from_pandas(FRAME), tmp_path / "e.feather")
    made: list[Any] = [
        *sorted(tmp_path.iterdir()),
        FRAME,
        pa.table(FRAME),
        FRAME.set_index(pd.Index([7, 8, 9])),
    ]
    made.append(FRAME.assign(y=FRAME["y"].astype("category")))
    for source in made:
        assert rows_of(open_source(source)) == ROWS, source


def test_frames_of_polars_are_read_too() -> None:
    polars = pytest.importorskip("polars")
    assert rows_of(open_source(polars.DataFrame(FRAME.to_dict("list")))) == ROWS


def test_what_no_example_can_hold_is_refused_by_name() -> None:
    y = ["a", "b"]
    for odd in (
        pa.array([[1], [2]]),
        pa.array([b"1", b"2"]),
        pa.array([datetime.timedelta(1)] * 2),
        pa.array([datetime.time(1)] * 2),
        pa.array([{"a": 1}] * 2),
    ):
        with pytest.raises(SourceInvalid, match="column 'odd'"):
            open_source(pa.table({"odd": odd, "y": y}))
    decimals = pa.table({"x": [Decimal("1.25"), Decimal("2.5")], "y": y})
    assert rows_of(open_source(decimals)) == [([1.25], "a"), ([2.5], "b")]


def test_missing_truth_values_become_their_share_of_true() -> None:
    table = pa.table({"x": [True, None, False], "y": ["a", "b", "a"]})
    assert rows_of(open_source(table, SourceOptions(fill_missing=True))) == [
        ([0.0], "a"),
        ([0.5], "b"),
        ([1.0], "a"),
    ]


@pytest.mark.parametrize(
    ("text", "options", "codes"),
    [
        ("a;b\n1,5;x\n2,5;y\n", {}, ["decimal"]),
        ("a,b\n31.12.2024,x\n01.02.2024,y\n", {}, ["date"]),
        ("a,b\n20240131,x\n20240201,y\n", {}, ["date"]),
        ("a,b\n1,Cat\n2,cat\n3,dog\n", {}, ["near-duplicates"]),
        ("a,b\n1,cat \n2,cat\n3,dog\n", {}, ["near-duplicates"]),
        ("a,b\n1, cat\n2, dog\n", {}, ["blanks"]),
        ("a,b\n1,1\n2,1.0\n3,0\n", {}, ["task", "near-duplicates"]),
        ("a,b\n1,NA\n2,x\n3,y\n", {}, ["missing-or-name"]),
        ("c,b\nNA,0\nDE,1\nNA,0\n", {"categorical": ("c",)}, ["missing-or-name"]),
        ("plz,b\n01234,x\n12345,y\n", {}, ["codes"]),
        ("a,b\n1e-50,x\n2e-50,y\n", {}, ["too-small"]),
        ("a,b\n1,x\n99999999999,y\n", {}, ["too-large"]),
        ("a,b\n1,x\ninf,y\n", {}, ["infinite"]),
        ("# made by a program\n" + DELIMITED, {}, ["comment"]),
        ("a;b,c\n1;2,x\n3;4,y\n", {}, ["delimiter"]),
        (DELIMITED.encode("utf-16-le"), {}, ["source-invalid"]),
        (DELIMITED.replace(",", "\t").encode("utf-16"), {}, []),
        ("sep=;\na;b\n1;x\n2;y\n", {}, []),
        ("a,b\n'1',x\n'2',y\n", {}, ["quote"]),
        ('a,b\n1,"x\ny"\n2,z\n', {}, ["source-invalid"]),
        ("a,b\r1,x\r2,y\r", {}, ["source-invalid"]),
    ],
)
def test_what_can_be_meant_in_two_ways_is_a_doubt(
    tmp_path: Path, text: str | bytes, options: dict[str, Any], codes: list[str]
) -> None:
    assert doubts_of(text, tmp_path, **options) == codes


def test_ids_indices_and_leaks_are_doubtful_and_all_are_told_at_once(tmp_path: Path) -> None:
    rows = "".join(f"P{n},{n + 1},{n * 7},{n % 2 + 5},{n % 5},{'xy'[n % 2]}\n" for n in range(30))
    text = "name,step,case_id,leak,size,kind\n" + rows
    assert doubts_of(text, tmp_path) == ["text", "index-column", "id-column", "leak"]
    assert doubts_of(text, tmp_path, drop=("name", "leak"), ids=("case_id",), keep=("step",)) == []


def test_a_category_for_each_row_is_not_what_was_meant(tmp_path: Path) -> None:
    text = "c,b\n" + "".join(f"k{n % 200},{'xy'[n % 2]}\n" for n in range(300))
    assert doubts_of(text, tmp_path, categorical=("c",)) == ["many-categories"]
    assert doubts_of(text, tmp_path, categorical=("c",), keep=("c",)) == []


def test_a_late_change_of_type_is_told_with_its_line_and_never_with_the_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "1,x\n2,y\n" * 10_000 + "secret,y\n")
    (doubt,) = open_source(tmp_path / "a.csv").description.understood.doubts
    assert "line 20002" in doubt.says
    assert "secret" not in doubt.says


def test_large_files_with_quoted_line_ends_keep_their_rows(tmp_path: Path) -> None:
    text = "a,note,b\n" + "".join(f'{n % 9},"one\ntwo {n}",{"xy"[n % 2]}\n' for n in range(20_000))
    (tmp_path / "a.csv").write_text(text)
    description = open_source(tmp_path / "a.csv", SourceOptions(drop=("note",))).description
    assert (description.examples, description.understood.doubts) == (20_000, ())


def test_an_open_quote_swallows_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,n,b\n1,"x\n2,q,k\n3,z",y\n4,w,k\n')
    with pytest.raises(SourceInvalid, match="line 2: a quoted cell goes on over lines that look like rows"):
        open_source(tmp_path / "a.csv", SourceOptions(drop=("n",)))


def test_dates_become_the_parts_that_are_declared(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("d,b\n2024-02-28T23:59:01Z,x\n2024-01-01 00:00,y\n")
    source = open_source(tmp_path / "a.csv", SourceOptions(dates=("d",)))
    assert rows_of(source) == [([2024, 1, 1, 0, 0], "y"), ([2024, 2, 28, 2, 23], "x")]
    parts = open_source(tmp_path / "a.csv", SourceOptions(dates=("d=month,minute",)))
    assert rows_of(parts) == [([1, 0], "y"), ([2, 59], "x")]
    (tmp_path / "a.csv").write_text("d,b\n2024-02-30,x\n2024-01-01,y\n")
    assert doubts_of("d,b\n2024-02-30,x\n2024-01-01,y\n", tmp_path, dates=("d",)) == ["date"]


def test_numbers_that_32_bits_would_not_tell_apart_are_centred(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,b\n1700000001,x\n1700000002,y\n1700000003,x\n")
    source = open_source(tmp_path / "a.csv")
    assert len({tuple(x) for x, _ in rows_of(source)}) == 3
    assert source.description.settled is not None
    assert source.description.settled.columns[0].offset == 1700000002


def test_a_schema_takes_the_next_file_the_same_way_or_refuses_it_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, schema = tmp_path / "a.csv", tmp_path / "a.schema"
    table.write_text("id,size,ward,kind\n7,1,east,x\n9,3,west,y\n4,,east,x\n")
    options = ("--id", "id", "--categorical", "ward", "--fill-missing")
    assert main(["data", "inspect", str(table), *options, "--schema", str(schema)]) == 0
    assert schema.stat().st_mode & 0o077 == 0
    table.write_text("ward;kind;size;id\nwest;y;;1\neast;x;5;2\n")
    out = str(tmp_path / "out")
    assert main(["data", "inspect", str(table), "--schema", str(schema)]) == 0
    assert main(["data", "encrypt", str(table), "--schema", str(schema), "--out", out, "--yes"]) == 0
    capsys.readouterr()
    for text, says in (
        ("ward,kind,id\nwest,y,1\n", "'size'"),
        ("ward,kind,size,id,more\nwest,y,1,1,1\n", "'more'"),
        ("ward,kind,size,id\nnorth,y,1,1\n", "line 2, column 'ward'"),
        ("ward,kind,size,id\nwest,z,1,1\n", "line 2, column 'kind'"),
        ("ward,kind,size,id\nwest,y,big,1\n", "line 2, column 'size'"),
    ):
        table.write_text(text)
        assert main(["data", "inspect", str(table), "--schema", str(schema)]) == 1
        assert says in capsys.readouterr().err
    assert main(["data", "inspect", str(table), "--schema", str(schema), "--target", "kind"]) == 1


def test_a_file_without_names_is_asked_without_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,x,5\n2,y,6\n1,x,7\n")
    source = open_source(tmp_path / "a.csv", SourceOptions(target="column 2", reading=Reading(header=False)))
    described, manifest = source.description, manifest_of(source)
    for text, known in (("3,9\n4,8\n", False), ("3,y,9\n4,x,8\n", True)):
        (tmp_path / "new.csv").write_text(text)
        found = read_rows(tmp_path / "new.csv", manifest, described.class_names, described.settled)
        assert found.x.tolist() == [[3, 9], [4, 8]]
        assert (found.y is not None) == known
    (tmp_path / "new.csv").write_text("3\n4\n")
    with pytest.raises(SourceInvalid, match="1 columns"):
        read_rows(tmp_path / "new.csv", manifest, described.class_names, described.settled)
    np.testing.assert_array_equal(sorted(read_all(source).x[:, 1]), [5, 6, 7])
