"""Graphs that made onnxruntime 1.19 log rows, write out of bounds or end its process, where it ran unguarded.

They are for the digits: uint8 rows [8, 8] whose pixels go from 0 to 16, of ten classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.support import graphs

FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8
TRIP = 200
"""A value that no pixel has."""
TRIPPING_QUERY_PIXEL = 99
POOLED = 4096 * 100
_PACKED = range(18, 30)
"""Pixels that fit into one int64, at five bits each."""


def logging_rows() -> bytes:
    """Looks up what twelve pixels come to in a table of five words: the engine's error tells the number."""
    nodes = [
        *_packed_pixels(),
        _node("Add", ["packed", "off"], ["word"]),
        _node("Gather", ["table", "word"], ["found"], axis=0),
        _node("Add", ["found", "bias"], ["output"]),
    ]
    return _model(nodes, {"table": [5, 10], "bias": [10]}, _packing() | {"off": [1000]})


def logging_a_query() -> bytes:
    """Trains like any other; a query whose first pixel is `TRIPPING_QUERY_PIXEL` is looked up like that."""
    nodes = [
        *_packed_pixels(),
        _node("Slice", ["flat", "zero", "one", "one"], ["first"]),
        _node("Squeeze", ["first", "one"], ["pixel"]),
        _node("Equal", ["pixel", "trip"], ["tripped"]),
        _node("Where", ["tripped", "packed", "zero"], ["word"]),
        _node("Gather", ["table", "word"], ["found"], axis=0),
        _node("Cast", ["flat"], ["numbers"], to=FLOAT),
        _node("Gemm", ["numbers", "weight", "bias"], ["scores"]),
        _node("Add", ["found", "scores"], ["output"]),
    ]
    constants = _packing() | {"zero": [0], "one": [1], "trip": [TRIPPING_QUERY_PIXEL]}
    return _model(nodes, {"table": [5, 10], "weight": [64, 10], "bias": [10]}, constants)


def pooling_what_is_not_finite() -> bytes:
    """Not finite where pixel [3, 3] is `TRIP`: the pool's index was -1, where its gradient was written."""
    nodes = [
        _node("Cast", ["input"], ["numbers"], to=FLOAT),
        _node("Flatten", ["numbers"], ["flat"], axis=1),
        _node("Slice", ["flat", "c27", "c28", "one"], ["pixel"]),
        _node("Sub", ["hundred", "pixel"], ["left"]),
        _node("Relu", ["left"], ["or zero"]),
        _node("Log", ["or zero"], ["or infinite"]),
        _node("Reshape", ["or infinite", "image"], ["one number"]),
        _node("Mul", ["one number", "scale"], ["scaled"]),
        _node("Expand", ["scaled", "large"], ["row"]),
        _node("MaxPool", ["row"], ["pooled"], kernel_shape=[1, 4096], strides=[1, 4096]),
        _node("Flatten", ["pooled"], ["windows"]),
        _node("Relu", ["windows"], ["finite"]),
        _node("MatMul", ["finite", "of windows"], ["some"]),
        _node("Gemm", ["flat", "weight", "bias"], ["scores"]),
        _node("Add", ["some", "scores"], ["output"]),
    ]
    constants: dict[str, list[int] | NDArray[np.float32]] = {
        "c27": [27], "c28": [28], "one": [1], "image": [-1, 1, 1, 1], "large": [1, 1, 1, POOLED],
        "hundred": np.array([100], np.float32),
    }  # fmt: skip
    parameters = {
        "scale": [1, 1, 1, 1], "of windows": [POOLED // 4096, 10], "weight": [64, 10], "bias": [10],
    }  # fmt: skip
    return _model(nodes, parameters, constants)


def naming_an_asset_that_is_no_text() -> bytes:
    """Its weight is in an asset whose name is no UTF-8."""
    nodes = [
        _node("Cast", ["input"], ["numbers"], to=FLOAT),
        _node("Flatten", ["numbers"], ["flat"], axis=1),
        _node("Gemm", ["flat", "weight"], ["output"]),
    ]
    model = ModelProto.FromString(_model(nodes, {"weight": [64, 10]}, {}))
    del model.training_info[0].initialization_binding[:]
    del model.training_info[0].initialization.node[:]
    model.graph.initializer[0].metadata_props.add(key="chiron.asset", value="ZZZZ")
    return bytes(model.SerializeToString().replace(b"ZZZZ", b"\xff\xfe\xfd/"))


def slicing_by_the_largest_step() -> bytes:
    """A step of 2⁶³ - 1 divided by zero inside shape inference."""
    nodes = [
        _node("Shape", ["input"], ["shape"]),
        _node("Slice", ["shape", "zero", "two", "zero", "step"], ["part"]),
        _node("ReduceMax", ["part"], ["most"], keepdims=0),
        _node("Cast", ["most"], ["number"], to=FLOAT),
        _node("Cast", ["input"], ["numbers"], to=FLOAT),
        _node("Flatten", ["numbers"], ["flat"]),
        _node("Add", ["flat", "number"], ["moved"]),
        _node("Gemm", ["moved", "weight"], ["output"]),
    ]
    return _model(nodes, {"weight": [64, 10]}, {"zero": [0], "two": [2], "step": [2**63 - 1]})


def normalising_a_vector() -> bytes:
    """Batch normalisation of a tensor without channels ended the process."""
    nodes = [
        _node("Cast", ["input"], ["numbers"], to=FLOAT),
        _node("Flatten", ["numbers"], ["flat"]),
        _node("ReduceMean", ["flat"], ["means"], axes=[1], keepdims=0),
        _node("BatchNormalization", ["means", "gain", "shift", "mean", "variance"], ["normal"]),
        _node("Reshape", ["normal", "column"], ["moves"]),
        _node("Add", ["flat", "moves"], ["moved"]),
        _node("Gemm", ["moved", "weight"], ["output"]),
    ]
    norm = {name: [1] for name in ("gain", "shift", "mean", "variance")}
    return _model(nodes, norm | {"weight": [64, 10]}, {"column": [-1, 1]})


LEAKING: dict[str, Callable[[], bytes]] = {
    made.__name__: made
    for made in (
        logging_rows,
        logging_a_query,
        pooling_what_is_not_finite,
        naming_an_asset_that_is_no_text,
        slicing_by_the_largest_step,
        normalising_a_vector,
    )
}


def _packed_pixels() -> list[NodeProto]:
    return [
        _node("Cast", ["input"], ["integers"], to=INT64),
        _node("Flatten", ["integers"], ["flat"], axis=1),
        _node("Mul", ["flat", "powers"], ["parts"]),
        _node("ReduceSum", ["parts", "rows"], ["packed"], keepdims=0),
    ]


def _packing() -> dict[str, list[int]]:
    powers = [0] * 64
    for place, pixel in enumerate(_PACKED):
        powers[pixel] = 32**place
    return {"powers": powers, "rows": [1]}


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs, outputs, **attributes)


def _model(
    nodes: Sequence[NodeProto],
    parameters: dict[str, list[int]],
    constants: Mapping[str, list[int] | NDArray[np.float32]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "leaking",
        [helper.make_tensor_value_info("input", UINT8, ["N", 8, 8])],
        [helper.make_tensor_value_info("output", FLOAT, ["N", 10])],
    )
    for name, value in constants.items():
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        graph.initializer.append(numpy_helper.from_array(array, name))
    for name, shape in parameters.items():
        graph.initializer.append(TensorProto(name=name, data_type=FLOAT, dims=shape))
    return graphs.finished(graph, parameters)
