"""Operands that ONNX's checker lets pass, and a kernel reads or writes past the end of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.corpus.onnx.cases import good, hostile

Shapes = Mapping[str, Sequence[int]]


def _numbers(name: str, *numbers: int) -> TensorProto:
    return numpy_helper.from_array(np.asarray(numbers, np.int64), name)


def _imaged(operator: str, operands: Shapes, width: int, **attributes: Any) -> ModelProto:
    """The input as an image [N, 1, 2, 2], one operator on it, and a dense layer of `width` inputs."""
    nodes = [
        helper.make_node("Reshape", ["input", "shape"], ["image"]),
        helper.make_node(operator, ["image", *operands], ["maps"], **attributes),
        helper.make_node("Flatten", ["maps"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["output"]),
    ]
    parameters = {"weight": [width, 3], **operands}
    return good(nodes, parameters=parameters, constants=[_numbers("shape", -1, 1, 2, 2)])


@hostile("operands-mismatch")
def convolution_with_a_short_bias() -> ModelProto:
    """The bias of channel 63 is read from what lies behind the vector in the heap."""
    return _imaged("Conv", {"kernel": [64, 1, 1, 1], "bias": [1]}, 256)


@hostile("operands-mismatch")
def kernel_of_another_shape_than_its_weight() -> ModelProto:
    """Inference believes the attribute, the kernel the weight."""
    return _imaged("Conv", {"kernel": [4, 1, 2, 2]}, 16, kernel_shape=[1, 1])


@hostile("operands-mismatch")
def convolution_of_more_channels_than_there_are() -> ModelProto:
    """The weight has two channels, the image one."""
    return _imaged("Conv", {"kernel": [4, 2, 1, 1]}, 16)


@hostile("operands-mismatch")
def maps_that_are_no_multiple_of_the_groups() -> ModelProto:
    """Three maps in two groups."""
    nodes = [
        helper.make_node("Reshape", ["input", "shape"], ["image"]),
        helper.make_node("Conv", ["image", "kernel"], ["maps"], group=2),
        helper.make_node("Flatten", ["maps"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["output"]),
    ]
    shape = _numbers("shape", -1, 2, 2, 1)
    return good(nodes, parameters={"weight": [6, 3], "kernel": [3, 1, 1, 1]}, constants=[shape])


@hostile("operands-mismatch")
def batch_norm_of_rank_1() -> ModelProto:
    """Ends the process at the first step."""
    names = ["scale", "bias", "mean", "variance"]
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["row"], axes=[1], keepdims=0),
        helper.make_node("BatchNormalization", ["row", *names], ["normal"]),
        helper.make_node("Reshape", ["normal", "shape"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["output"]),
    ]
    parameters = {"weight": [1, 3], **{name: [1] for name in names}}
    return good(nodes, parameters=parameters, constants=[_numbers("shape", -1, 1)])


def _layer_norm(shape: Sequence[int], axis: int) -> ModelProto:
    nodes = [
        helper.make_node("LayerNormalization", ["input", "scale", "bias"], ["normal"], axis=axis),
        helper.make_node("MatMul", ["normal", "weight"], ["output"]),
    ]
    return good(nodes, parameters={"weight": [4, 3], "scale": shape, "bias": shape})


@hostile("operands-mismatch")
def layer_norm_over_the_batch() -> ModelProto:
    """Axis 0: one example's values depend on another's, and on how many there are."""
    return _layer_norm([4], 0)


@hostile("operands-mismatch")
def layer_norm_with_a_short_scale() -> ModelProto:
    """One factor for four values."""
    return _layer_norm([1], -1)


@hostile("operands-mismatch")
def pool_whose_window_lies_in_the_padding() -> ModelProto:
    """No element has the window's maximum: its gradient is written before the image."""
    return _imaged("MaxPool", {}, 16, kernel_shape=[1, 1], pads=[1, 1, 1, 1])


@hostile("graph-invalid")
def pool_of_one_dimension_over_an_image() -> ModelProto:
    """A stride for one dimension of two."""
    return _imaged("MaxPool", {}, 1, kernel_shape=[2, 2], strides=[1])


@hostile("attribute-not-allowed")
def pool_that_rounds_up() -> ModelProto:
    """ceil_mode: the last window can lie outside of the image."""
    return _imaged("MaxPool", {}, 1, kernel_shape=[1, 1], strides=[3, 3], ceil_mode=1)


def _sliced(starts: int, ends: int, *steps: int) -> ModelProto:
    nodes = [
        helper.make_node("Shape", ["input"], ["size"]),
        helper.make_node("Slice", ["size", "starts", "ends", "axes", "steps"], ["part"]),
        helper.make_node("ReduceMax", ["part"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["input", "factor"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weight"], ["output"]),
    ]
    bounds = {"starts": [starts], "ends": [ends], "axes": [0], "steps": steps}
    return good(nodes, constants=[_numbers(name, *numbers) for name, numbers in bounds.items()])


@hostile("constant-invalid")
def slice_in_the_largest_steps() -> ModelProto:
    """Inference counts past 2^63, and reads what lies elsewhere: it ends the process."""
    return _sliced(0, 2, 2**63 - 1)


@hostile("constant-invalid")
def slice_in_the_smallest_steps() -> ModelProto:
    """As above, backwards: it takes all memory."""
    return _sliced(5, -(2**63), -(2**63))


@hostile("constant-invalid")
def slice_by_lists_of_several_lengths() -> ModelProto:
    """Two steps for one axis."""
    return _sliced(0, 2, 1, 1)


@hostile("constant-invalid")
def slice_by_computed_numbers() -> ModelProto:
    """The numbers are known to inference alone."""
    model = _sliced(0, 2, 1)
    model.graph.node[1].input[4] = "computed"
    model.graph.node.insert(1, helper.make_node("Mul", ["steps", "steps"], ["computed"]))
    return model


def _grown(*nodes: NodeProto, **constants: int) -> ModelProto:
    """A block of `length` zeros, cast, its largest added to the input."""
    tail = [
        helper.make_node("ConstantOfShape", ["length"], ["block"]),
        helper.make_node("Cast", ["block"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["numbers"], ["most"], keepdims=0),
        helper.make_node("Add", ["input", "most"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weight"], ["output"]),
    ]
    return good([*nodes, *tail], constants=[_numbers(name, number) for name, number in constants.items()])


@hostile("shape-overflow")
def calculated_length() -> ModelProto:
    """400 bytes of graph: inference makes a list of as many dimensions, and takes all memory."""
    return _grown(helper.make_node("Mul", ["a", "b"], ["length"]), a=10**9, b=1)


@hostile("shape-unknown")
def length_that_is_small_for_some_batches() -> ModelProto:
    """k · (N - 1)²(N - 4)²(N - 11)² + 1 elements: one for each batch that admission looks at."""
    nodes = [helper.make_node("Shape", ["input"], ["n"], start=0, end=1)]
    roots = ("one", "four", "eleven")
    nodes += [helper.make_node("Sub", ["n", root], [f"less_{root}"]) for root in roots]
    nodes.append(helper.make_node("Mul", ["less_one", "less_four"], ["quadratic"]))
    nodes.append(helper.make_node("Mul", ["quadratic", "less_eleven"], ["cubic"]))
    nodes.append(helper.make_node("Mul", ["cubic", "cubic"], ["square"]))
    nodes.append(helper.make_node("Mul", ["square", "k"], ["times"]))
    nodes.append(helper.make_node("Add", ["times", "one"], ["length"]))
    return _grown(*nodes, one=1, four=4, eleven=11, k=1000)
