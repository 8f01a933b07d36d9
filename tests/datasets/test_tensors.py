"""Canonical safetensors: one byte string a form, the same as the library's, and nothing else is read."""

from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from chiron.runtime.datasets.tensors import Form, TensorLayout
from chiron.runtime.errors import TensorsMalformed

DTYPES = st.sampled_from(["uint8", "int32", "int64", "float32"])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=4),
        elements={"min_value": 0, "max_value": 100},
    )
)
NAMED = st.dictionaries(st.sampled_from(["x", "y", "scores", "classes"]), ARRAYS, min_size=1)


def layout_of(arrays: dict[str, NDArray[Any]]) -> TensorLayout:
    return TensorLayout({name: Form(array.dtype, array.shape) for name, array in arrays.items()})


@settings(max_examples=50, deadline=None)
@given(NAMED)
def test_the_bytes_are_those_of_the_safetensors_library_and_round_trip(
    arrays: dict[str, NDArray[Any]],
) -> None:
    layout = layout_of(arrays)
    data = layout.dump(arrays)
    assert data == safetensors.numpy.save(arrays)
    assert len(data) == layout.size
    loaded = layout.load(data)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert not loaded[name].flags.writeable


@settings(max_examples=50, deadline=None)
@given(NAMED, st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(arrays: dict[str, NDArray[Any]], data: bytes) -> None:
    with pytest.raises(TensorsMalformed):
        layout_of(arrays).load(data)


def test_valid_safetensors_of_another_form_are_refused() -> None:
    layout = TensorLayout({"x": Form(np.dtype("float32"), (2, 3))})
    others: tuple[dict[str, NDArray[Any]], ...] = (
        {"x": np.zeros((3, 2), np.float32)},
        {"x": np.zeros((2, 3), np.int32)},
        {"z": np.zeros((2, 3), np.float32)},
        {"x": np.zeros((2, 3), np.float32), "y": np.zeros(0, np.uint8)},
    )
    for other in others:
        with pytest.raises(TensorsMalformed):
            layout.load(safetensors.numpy.save(other))
        with pytest.raises(TensorsMalformed):
            layout.dump(other)
    with_metadata = safetensors.numpy.save({"x": np.zeros((2, 3), np.float32)}, {"note": "hidden"})
    with pytest.raises(TensorsMalformed):
        layout.load(with_metadata)
