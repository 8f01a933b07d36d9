"""Initializers that lie about themselves."""

import struct
from typing import Any

from onnx import ModelProto, TensorProto, helper

from tests.corpus.onnx.cases import good, hostile


def _constant(**fields: Any) -> ModelProto:
    return good(constants=[TensorProto(name="constant", **fields)])


@hostile("constant-invalid")
def data_shorter_than_its_shape() -> ModelProto:
    """Reading it reads what lies behind."""
    return _constant(data_type=TensorProto.FLOAT, dims=[1000], raw_data=b"\x00" * 16)


@hostile("constant-invalid")
def data_longer_than_its_shape() -> ModelProto:
    """Bytes that nobody counted."""
    return _constant(data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\x00" * 4096)


@hostile("constant-invalid")
def data_given_twice() -> ModelProto:
    """Raw and typed: readers choose differently."""
    return _constant(data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\x00" * 4, float_data=[1.0])


@hostile("constant-invalid")
def data_of_another_type() -> ModelProto:
    """Integers for a float tensor."""
    return _constant(data_type=TensorProto.FLOAT, dims=[1], int64_data=[1])


@hostile("constant-invalid")
def constant_that_is_not_a_number() -> ModelProto:
    """NaN spreads to every weight."""
    return _constant(data_type=TensorProto.FLOAT, dims=[1], raw_data=struct.pack("<f", float("nan")))


@hostile("constant-too-large")
def weights_smuggled_as_constants() -> ModelProto:
    """Half a million values that count as no parameter."""
    return _constant(data_type=TensorProto.UINT8, dims=[500_000], raw_data=bytes(500_000))


@hostile("constant-too-large")
def many_inline_constants() -> ModelProto:
    """The same in Constant nodes."""
    tensor = helper.make_tensor("t", TensorProto.UINT8, [200_000], bytes(200_000), raw=True)
    nodes = [helper.make_node("Constant", [], [f"c{i}"], value=tensor) for i in range(3)]
    return good([*nodes, helper.make_node("MatMul", ["input", "weight"], ["output"])])


@hostile("parameter-invalid")
def integer_parameter() -> ModelProto:
    """Dims without data, of integers."""
    return _constant(data_type=TensorProto.INT64, dims=[3])


@hostile("type-not-allowed")
def complex_parameter() -> ModelProto:
    """Of a type that nothing trains."""
    return _constant(data_type=TensorProto.COMPLEX128, dims=[3])


@hostile("type-not-allowed")
def element_type_out_of_range() -> ModelProto:
    """Type 2^30."""
    return _constant(data_type=2**30, dims=[3])


@hostile("parameters-exceed-envelope")
def more_parameters_than_promised() -> ModelProto:
    """1001 where the envelope says 1000."""
    return good(parameters={"weight": [4, 3], "more": [989]})


@hostile("parameters-missing")
def nothing_to_train() -> ModelProto:
    """All weights are constants."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [4, 3], [0.0] * 12)
    return good(parameters={}, constants=[weight])


@hostile("parameter-invalid")
def parameter_that_nothing_uses() -> ModelProto:
    """A place to carry data in."""
    return good(parameters={"weight": [4, 3], "cargo": [100]})


@hostile("parameter-invalid")
def parameter_used_for_its_shape_only() -> ModelProto:
    """It has no gradient."""
    nodes = [
        helper.make_node("Shape", ["form"], ["size"]),
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Reshape", ["scores", "size"], ["output"]),
    ]
    return good(nodes, parameters={"weight": [4, 3], "form": [7, 3]})
