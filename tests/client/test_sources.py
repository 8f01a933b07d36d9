"""Sources of training data: real files in, the right arrays out; what cannot be meant has a code."""

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from chiron.client.datasets import ArraySource, Source, SourceOptions, open_source
from chiron.client.datasets.encrypt import split
from chiron.client.datasets.rows import read_rows
from chiron.client.datasets.tables.options import TableOptions
from chiron.client.datasets.tables.source import table_source
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Column
from chiron.runtime.datasets import Examples
from chiron.wire.contract import InputType, Task
from chiron.wire.datasets import DatasetManifest
from tests.support.specs import dataset_manifest


def all_rows(source: Source) -> NDArray[np.int64]:
    return np.arange(source.description.examples)


def read_all(source: Source, size: int = 7) -> Examples:
    batches = list(source.read(all_rows(source), size))
    assert all(len(batch.x) == size for batch in batches[:-1])
    return Examples(
        np.concatenate([batch.x for batch in batches]), np.concatenate([batch.y for batch in batches])
    )


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["uint8", "int16", "float32", "float64", "bool"]),
        hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=6),
        elements={"min_value": 0, "max_value": 1},
    )
)
def test_arrays_come_out_as_they_went_in(x: NDArray[Any]) -> None:
    y = np.arange(len(x)) % 2
    source = ArraySource(x, y)
    examples = read_all(source, 3)
    np.testing.assert_array_equal(examples.x, x.astype(examples.x.dtype))
    np.testing.assert_array_equal(examples.y, y)
    small = x.dtype in (np.uint8, np.bool_)
    assert source.description.input_dtype is (InputType.UINT8 if small else InputType.FLOAT32)


def test_targets_say_what_the_task_is() -> None:
    x = np.zeros((4, 2), np.float32)
    assert ArraySource(x, [0, 1, 2, 0]).description.class_names == ("0", "1", "2")
    named = ArraySource(x, np.array(["cat", "dog", "cat", "ant"]))
    assert named.description.class_names == ("ant", "cat", "dog")
    assert read_all(named).y.tolist() == [1, 2, 1, 0]
    sparse = ArraySource(x, [7, 3, 7, 9])
    assert (sparse.description.class_names, read_all(sparse).y.tolist()) == (("3", "7", "9"), [1, 0, 1, 2])
    regression = ArraySource(x, np.array([[1.5], [2], [3], [4]]))
    assert (regression.description.task, regression.description.target_shape) == (Task.REGRESSION, (1,))
    assert read_all(regression).y.dtype == np.float32


@pytest.mark.parametrize(
    ("x", "y", "code"),
    [
        (np.zeros((3, 2)), np.zeros(2, np.int64), "source-invalid"),
        (np.zeros((0, 2)), np.zeros(0, np.int64), "source-invalid"),
        (np.zeros((2, 2)), np.zeros(2, np.int64), "source-invalid"),
        (np.array([["a"], ["b"]]), np.arange(2), "source-invalid"),
        (np.array([[1.0], [np.nan]]), np.arange(2), "source-not-finite"),
        (np.array([[1.0], [np.inf]]), np.arange(2), "source-not-finite"),
        (np.zeros((2, 1)), np.array([0.5, np.nan]), "source-not-finite"),
        (np.array([[object()], [object()]]), np.arange(2), "source-invalid"),
    ],
)
def test_arrays_that_nothing_can_be_learnt_from_are_refused(x: Any, y: Any, code: str) -> None:
    with pytest.raises(SourceInvalid) as caught:
        read_all(ArraySource(x, y))
    assert caught.value.code == code


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file_is_mapped_not_loaded(tmp_path: Path, save: Callable[..., None]) -> None:
    x, y = np.arange(2**24, dtype=np.uint32).astype(np.uint8).reshape(256, 256, 256), np.arange(256) % 3
    save(tmp_path / "a.npz", x=x, y=y)
    tracemalloc.start()
    try:
        source = open_source(str(tmp_path / "a.npz"))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(source, ArraySource)
    assert most < x.nbytes / 2
    np.testing.assert_array_equal(read_all(source).x, x)


def test_images_with_channels_last_are_turned_for_training_and_for_prediction(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (6, 5, 7, 3), np.uint8)
    source = ArraySource(x, [0, 1] * 3)
    np.testing.assert_array_equal(read_all(source).x, x.transpose(0, 3, 1, 2))
    assert "turned" in source.description.understood.facts["images"]
    for rows in (x, x.transpose(0, 3, 1, 2), x.transpose(0, 3, 1, 2).reshape(6, -1)):
        np.save(tmp_path / "rows.npy", rows)
        found = read_rows(tmp_path / "rows.npy", manifest_of(source))
        np.testing.assert_array_equal(found.x, x.transpose(0, 3, 1, 2))
    np.save(tmp_path / "rows.npy", x.transpose(0, 3, 2, 1))
    with pytest.raises(SourceInvalid):
        read_rows(tmp_path / "rows.npy", manifest_of(source))


def test_files_that_are_not_what_they_are_called_are_refused(tmp_path: Path) -> None:
    for name in ("a.npz", "a.csv", "a.parquet", "a.zip"):
        (tmp_path / name).write_bytes(b"\0garbage\xff" * 20)
        with pytest.raises(SourceInvalid):
            open_source(str(tmp_path / name))
    (tmp_path / "empty.csv").write_text("")
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}, {}]), y=np.arange(2))
    (tmp_path / "a.txt").write_text("x")
    for name in ("empty.csv", "other.npz", "pickled.npz", "a.txt", "missing.csv"):
        with pytest.raises(SourceInvalid):
            open_source(str(tmp_path / name))
    with pytest.raises(SourceInvalid):
        open_source("sklearn:nothing")


def write_csv(path: Path, rows: int = 50) -> NDArray[np.float64]:
    values = np.round(np.random.default_rng(0).normal(size=(rows, 3)), 6)
    values[0] = [1, 2, 3]  # whole numbers first: the column's type must not follow from them
    labels = ["yes" if row.sum() > 0 else "no" for row in values]
    lines = [",".join([*map(str, row), label]) for row, label in zip(values, labels, strict=True)]
    path.write_text("\n".join(["a,b,c,label", *lines]) + "\n")
    return values


def test_a_csv_file_gives_every_row_once(tmp_path: Path) -> None:
    values = write_csv(tmp_path / "a.csv")
    source = open_source(str(tmp_path / "a.csv"))
    assert source.description.class_names == ("no", "yes")
    examples = read_all(source)
    assert examples.x.dtype == np.float32
    order = np.argsort(examples.x[:, 0], kind="stable")
    expected = values[np.argsort(values[:, 0].astype(np.float32), kind="stable")].astype(np.float32)
    np.testing.assert_array_equal(examples.x[order], expected)
    np.testing.assert_array_equal(examples.y, examples.x.astype(np.float64).sum(axis=1) > 0)


def test_chosen_rows_of_a_table_are_the_rows_of_those_numbers(tmp_path: Path) -> None:
    values = write_csv(tmp_path / "a.csv")
    source = table_source(tmp_path / "a.csv")
    chosen = np.array([3, 41, 17])
    (examples,) = source.read(chosen, 10)
    assert sorted(examples.x[:, 1]) == sorted(values[chosen, 1].astype(np.float32))


def test_a_parquet_file_of_several_row_groups(tmp_path: Path) -> None:
    table = pa.table({"t": [0.5, 1.5, 2.5, 3.5] * 50, "a": range(200), "b": [True, False] * 100})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=30)
    options = SourceOptions(target="t", input_shape=(1, 2), input_dtype=InputType.UINT8, keep=("a",))
    source = open_source(str(tmp_path / "a.parquet"), options)
    assert source.description.task is Task.REGRESSION
    examples = read_all(source)
    assert examples.x.shape == (200, 1, 2)
    assert sorted(examples.x[:, 0, 0].tolist()) == list(range(200))
    np.testing.assert_allclose(examples.y, examples.x[:, 0, 0] % 4 + 0.5)


def test_sorted_tables_are_mixed_within_a_window(tmp_path: Path) -> None:
    path = tmp_path / "sorted.csv"
    path.write_text("a,y\n" + "".join(f"{row},{'x' if row < 500 else 'z'}\n" for row in range(1000)))
    source = table_source(path, TableOptions(keep=("a",)))  # it looks like an index
    first = next(source.read(all_rows(source), 100))
    assert first.x.max() > 150
    assert not (np.diff(first.x[:, 0]) > 0).all()


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("a,b\n1,x\n,y\n", TableOptions(), "source-doubtful"),
        ("a,b\n1,x\n2,\n", TableOptions(), "source-not-finite"),
        ("a,b\n1,x\n2,x\n", TableOptions(), "source-invalid"),
        ("a,b\nhello,x\nyou,y\n", TableOptions(), "source-doubtful"),
        ("a,b\n1,x\n2,y\n", TableOptions(target="c"), "source-invalid"),
        ("a,b\n1,x\n2,y\n", TableOptions(input_shape=(2,)), "source-invalid"),
        ("a,b\n1,x\n2,y\n", TableOptions(task=Task.REGRESSION), "source-invalid"),
        ("a,b\n1.5,x\n2,y\n", TableOptions(input_dtype=InputType.UINT8), "source-invalid"),
        ("a,b\n256,x\n2,y\n", TableOptions(input_dtype=InputType.UINT8), "source-invalid"),
        ("a,b\n1,x\n2,y,z\n", TableOptions(), "source-invalid"),
        ("a,b\n", TableOptions(), "source-invalid"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(
    tmp_path: Path, text: str, options: TableOptions, code: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(SourceInvalid) as caught:
        read_all(table_source(tmp_path / "a.csv", options))
    assert caught.value.code == code


def make_images(root: Path, mode: str = "RGB") -> None:
    random = np.random.default_rng(1)
    for name in ("dogs", "cats"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            shape = (6, 8, 3) if mode == "RGB" else (6, 8)
            Image.fromarray(random.integers(0, 255, shape, np.uint8), mode).save(
                root / name / f"{number}.png"
            )
    (root / "cats" / "notes.txt").write_text("not an image")
    (root / "cats" / ".hidden.png").write_text("not an image")


def test_image_folders_and_zip_files_give_the_same_pixels(tmp_path: Path) -> None:
    make_images(tmp_path / "pets")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted((tmp_path / "pets").rglob("*")):
            archive.write(path, path.relative_to(tmp_path))
    folder, zipped = open_source(str(tmp_path / "pets")), open_source(str(tmp_path / "pets.zip"))
    assert folder.description == zipped.description
    assert folder.description.input_shape == (3, 6, 8)
    assert folder.description.class_names == ("cats", "dogs")
    left, right = read_all(folder, 4), read_all(zipped, 4)
    np.testing.assert_array_equal(left.x, right.x)
    assert left.y.tolist() == right.y.tolist() == [0, 0, 0, 1, 1, 1]
    expected = np.asarray(Image.open(tmp_path / "pets" / "dogs" / "2.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(left.x[5], expected)


def test_images_are_scaled_and_made_grey_on_request(tmp_path: Path) -> None:
    make_images(tmp_path / "pets")
    options = SourceOptions(image_size=(5, 4), grey=True)
    assert read_all(open_source(str(tmp_path / "pets"), options)).x.shape == (6, 1, 4, 5)
    make_images(tmp_path / "grey", mode="L")
    assert open_source(str(tmp_path / "grey")).description.input_shape == (1, 6, 8)


def test_damaged_images_and_lone_classes_are_refused(tmp_path: Path) -> None:
    make_images(tmp_path / "pets")
    whole = (tmp_path / "pets" / "dogs" / "1.png").read_bytes()
    (tmp_path / "pets" / "dogs" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceInvalid, match=r"dogs/1\.png"):
        read_all(open_source(str(tmp_path / "pets")))
    make_images(tmp_path / "more")
    for path in (tmp_path / "more" / "dogs").iterdir():
        path.unlink()
    with pytest.raises(SourceInvalid, match="1 class"):
        open_source(str(tmp_path / "more"))


def test_an_image_that_claims_too_many_pixels_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "pets")
    monkeypatch.setattr("chiron.client.datasets.images.MAX_PIXELS", 47)
    with pytest.raises(SourceInvalid, match="pixels"):
        open_source(str(tmp_path / "pets"))


def test_the_built_in_digits_are_the_real_ones() -> None:
    source = open_source("sklearn:digits")
    assert (source.description.examples, source.description.input_shape) == (1797, (1, 8, 8))
    examples = read_all(source, 500)
    assert np.bincount(examples.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (examples.x.min(), examples.x.max()) == (0, 1)
    assert open_source("sklearn:diabetes").description.task is Task.REGRESSION
    assert open_source("sklearn:iris").description.class_names == ("setosa", "versicolor", "virginica")


def test_options_that_do_not_apply_are_refused() -> None:
    with pytest.raises(SourceInvalid, match="image-size"):
        open_source("sklearn:digits", SourceOptions(image_size=(8, 8)))


@given(st.integers(1, 300), st.floats(0, 99), st.integers(0, 5))
def test_a_split_deals_every_row_once_and_can_be_repeated(examples: int, percent: float, seed: int) -> None:
    try:
        parts = split(examples, percent, seed)
    except SourceInvalid:
        assert round(examples * percent / 100) == examples
        return
    assert sorted([*parts.train, *parts.held_out]) == list(range(examples))
    assert len(parts.held_out) == round(examples * percent / 100)
    np.testing.assert_array_equal(parts.train, split(examples, percent, seed).train)


def manifest_of(source: Source) -> DatasetManifest:
    form = source.description.chunk_form(4)
    return dataset_manifest(
        task=form.task,
        input_shape=form.input_shape,
        input_dtype=form.input_dtype,
        target_shape=form.target_shape,
        classes=form.classes,
        examples=4,
        chunk_examples=4,
        chunk_ciphertext_bytes=form.ciphertext_bytes,
    )


def test_rows_to_predict_take_the_form_of_the_training_data(tmp_path: Path) -> None:
    values = write_csv(tmp_path / "a.csv")
    source = table_source(tmp_path / "a.csv")
    manifest, names = manifest_of(source), source.description.class_names
    with_targets = read_rows(tmp_path / "a.csv", manifest, names, source.description.settled)
    np.testing.assert_array_equal(with_targets.x, values.astype(np.float32))
    assert with_targets.y is not None
    assert with_targets.y.tolist() == (values.sum(axis=1) > 0).astype(int).tolist()
    np.savez(tmp_path / "b.npz", x=values)
    rows = read_rows(tmp_path / "b.npz", manifest)
    assert rows.x.dtype == np.float32
    assert rows.y is None
    np.save(tmp_path / "c.npy", values[:, :2])
    with pytest.raises(SourceInvalid):
        read_rows(tmp_path / "c.npy", manifest)
    with pytest.raises(SourceInvalid):
        read_rows(tmp_path / "missing.npy", manifest)


def test_images_to_predict(tmp_path: Path) -> None:
    make_images(tmp_path / "pets")
    source = open_source(str(tmp_path / "pets"))
    manifest = manifest_of(source)
    folder = read_rows(tmp_path / "pets" / "dogs", manifest)
    one = read_rows(tmp_path / "pets" / "dogs" / "1.png", manifest)
    assert folder.x.shape == (3, 3, 6, 8)
    np.testing.assert_array_equal(folder.x[1], one.x[0])


def columns_of(source: Source) -> tuple[Column, ...]:
    assert source.description.settled is not None
    return source.description.settled.columns


PATIENTS = """age,ward,outcome,dose
30,east,ill,1
,west,well,2.5
50,,well,
40,north,ill,4
"""


def test_categories_and_missing_values_become_numbers_as_declared(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text(PATIENTS)
    options = SourceOptions(target="outcome", categorical=("ward",), fill_missing=True)
    source = open_source(str(tmp_path / "patients.csv"), options)
    assert source.description.input_shape == (5,)
    assert [column.categories for column in columns_of(source)] == [(), ("east", "north", "west"), ()]
    examples = read_all(source)
    found = {tuple(x): y for x, y in zip(examples.x.tolist(), examples.y.tolist(), strict=True)}
    assert found == {
        (30, 1, 0, 0, 1): 0,
        (40, 0, 0, 1, 2.5): 1,  # the mean age
        (50, 0, 0, 0, 2.5): 1,  # no ward, and the mean dose
        (40, 0, 1, 0, 4): 0,
    }


def test_rows_to_predict_are_encoded_as_the_training_data_was(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text(PATIENTS)
    options = SourceOptions(target="outcome", categorical=("ward",), fill_missing=True)
    source = open_source(str(tmp_path / "patients.csv"), options)
    described, manifest = source.description, manifest_of(source)
    (tmp_path / "new.csv").write_text("dose,ward,age\n7,west,20\n,,\n")
    rows = read_rows(tmp_path / "new.csv", manifest, described.class_names, described.settled)
    assert rows.x.tolist() == [[20, 0, 0, 1, 7], [40, 0, 0, 0, 2.5]]
    assert rows.y is None
    known = read_rows(tmp_path / "patients.csv", manifest, described.class_names, described.settled)
    assert known.y is not None
    assert known.y.tolist() == [0, 1, 1, 0]
    for bad in ("dose,ward,age\n7,south,20\n", "dose,ward\n7,west\n", "dose,ward,age,a,b\n7,west,1,1,1\n"):
        (tmp_path / "bad.csv").write_text(bad)
        with pytest.raises(SourceInvalid):
            read_rows(tmp_path / "bad.csv", manifest, described.class_names, described.settled)


def test_what_is_not_declared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text(PATIENTS)
    name = str(tmp_path / "patients.csv")
    for options in (
        SourceOptions(target="outcome"),
        SourceOptions(target="outcome", categorical=("ward",)),
        SourceOptions(target="outcome", fill_missing=True),
        SourceOptions(target="outcome", categorical=("ward", "room"), fill_missing=True),
        SourceOptions(target="outcome", categorical=("outcome", "ward"), fill_missing=True),
    ):
        with pytest.raises(SourceInvalid):
            read_all(open_source(name, options))
    with pytest.raises(SourceInvalid, match="does not apply"):
        open_source("sklearn:iris", SourceOptions(categorical=("ward",)))


def test_categories_of_a_parquet_file_may_be_numbers(tmp_path: Path) -> None:
    columns = {"code": [10, 2, None, 2], "size": [0.5, float("nan"), 1.5, 1.0], "y": [0.1, 0.2, 0.3, 0.4]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    source = open_source(str(tmp_path / "a.parquet"), SourceOptions(categorical=("code",), fill_missing=True))
    assert columns_of(source)[0].categories == ("10", "2")
    examples = read_all(source)
    by_target = examples.x[np.argsort(examples.y)].tolist()
    assert by_target == [[1, 0, 0.5], [0, 1, 1.0], [0, 0, 1.5], [0, 1, 1.0]]
