"""Lists of numbers that ONNX's inference would carry through a graph: small graphs that exhaust or end it."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.corpus.onnx.cases import good, hostile

node = helper.make_node


def _list(name: str, *numbers: int) -> TensorProto:
    return numpy_helper.from_array(np.asarray(numbers, np.int64), name)


def _reshaped_to(nodes: Sequence[NodeProto], *constants: TensorProto) -> ModelProto:
    """The input reshaped to `shape`, which the nodes make."""
    tail = [node("Reshape", ["input", "shape"], ["same"]), node("MatMul", ["same", "weight"], ["output"])]
    return good([*nodes, *tail], constants=constants)


@hostile("shape-unknown")
def sums_of_a_long_constant() -> ModelProto:
    """262,144 numbers added to themselves 1,900 times: each sum would be kept, 50 bytes a number."""
    nodes = [node("Add", [f"v{i}", "v0"], [f"v{i + 1}"]) for i in range(1900)]
    nodes.append(node("Slice", ["v1900", "zero", "two"], ["shape"]))
    ones = numpy_helper.from_array(np.ones(262_000, np.int64), "v0")
    return _reshaped_to(nodes, ones, _list("zero", 0), _list("two", 2))


@hostile("shape-overflow")
def list_that_doubles() -> ModelProto:
    """A list joined to itself thirty times has 2^30 numbers."""
    nodes = [node("Shape", ["input"], ["v0"])]
    nodes += [node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(30)]
    nodes.append(node("Slice", ["v30", "zero", "two"], ["shape"]))
    return _reshaped_to(nodes, _list("zero", 0), _list("two", 2))


@hostile("shape-unknown")
def sizes_picked_a_hundred_thousand_times() -> ModelProto:
    """Two sizes, by a long list of places."""
    nodes = [
        node("Shape", ["input"], ["sizes"]),
        node("Gather", ["sizes", "places"], ["v0"]),
        *(node("Mul", [f"v{i}", f"v{i}"], [f"v{i + 1}"]) for i in range(50)),
        node("Slice", ["v50", "zero", "two"], ["shape"]),
    ]
    places = numpy_helper.from_array(np.zeros(100_000, np.int64), "places")
    return _reshaped_to(nodes, places, _list("zero", 0), _list("two", 2))


@hostile("shape-unknown")
def place_beyond_the_sizes() -> ModelProto:
    """The thousandth size of two; and places that overflow, as an index."""
    nodes = [node("Shape", ["input"], ["sizes"]), node("Gather", ["sizes", "places"], ["shape"])]
    return _reshaped_to(nodes, _list("places", 1000, -(2**62)))


@hostile("shape-unknown")
def divisor_that_becomes_zero() -> ModelProto:
    """Products of sizes that wrap to -1 and to the lowest number: their quotient ends the process."""
    nodes = [
        node("Mul", ["factors", "one"], ["target"]),
        node("Add", ["target", "zero"], ["shape"]),
    ]
    factors = _list("factors", 3 * 5 * 17 * 257 * 641, 65537, 6700417, -1)
    return _reshaped_to(nodes, factors, _list("one", 1, 1, 1, 1), _list("zero", 0, 0, 0, 0))


@hostile("shape-overflow")
def list_as_long_as_a_calculated_number() -> ModelProto:
    """A block of a billion zeros, whose numbers would be carried as a shape."""
    nodes = [node("Mul", ["a", "b"], ["length"]), node("ConstantOfShape", ["length"], ["v0"])]
    nodes += [node("Cast", [f"v{i}"], [f"v{i + 1}"], to=TensorProto.INT64) for i in range(10)]
    nodes.append(node("Slice", ["v10", "zero", "two"], ["shape"]))
    return _reshaped_to(nodes, _list("a", 10**9), _list("b", 1), _list("zero", 0), _list("two", 2))


@hostile("constant-invalid")
def axes_by_the_thousand() -> ModelProto:
    """More axes than a value can have."""
    nodes = [
        node("Unsqueeze", ["input", "axes"], ["deep"]),
        node("Squeeze", ["deep", "axes"], ["flat"]),
        node("MatMul", ["flat", "weight"], ["output"]),
    ]
    return good(nodes, constants=[_list("axes", *range(1, 5000))])


@hostile("constant-invalid")
def axes_that_are_calculated() -> ModelProto:
    """An axis that is the size of the batch."""
    nodes = [
        node("Shape", ["input"], ["batch"], start=0, end=1),
        node("ReduceSum", ["input", "batch"], ["sums"]),
        node("Add", ["input", "sums"], ["sum"]),
        node("MatMul", ["sum", "weight"], ["output"]),
    ]
    return good(nodes)


@hostile("constant-invalid")
def parts_that_are_calculated() -> ModelProto:
    """Split by sizes."""
    nodes = [
        node("Shape", ["input"], ["size"], start=1, end=2),
        node("Split", ["input", "size"], ["part"], axis=1),
        node("MatMul", ["part", "weight"], ["output"]),
    ]
    return good(nodes)


@hostile("constant-invalid")
def depth_that_is_the_batch() -> ModelProto:
    """One-hot vectors as long as there are examples."""
    nodes = [
        node("Shape", ["input"], ["batch"], start=0, end=1),
        node("Cast", ["input"], ["whole"], to=TensorProto.INT64),
        node("OneHot", ["whole", "batch", "values"], ["vectors"]),
        node("ReduceMax", ["vectors"], ["most"], axes=[2], keepdims=0),
        node("MatMul", ["most", "weight"], ["output"]),
    ]
    return good(nodes, constants=[numpy_helper.from_array(np.asarray([0, 1], np.float32), "values")])
