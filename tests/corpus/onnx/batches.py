"""Values that grow in proportion to batches of 1, 4 and 11 examples, and otherwise to others.

Admission looks at these three. What is admitted must hold for all that training and prediction use.
"""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.corpus.onnx.cases import good, hostile

node = helper.make_node


def _numbers(**lists: Sequence[int] | int) -> list[TensorProto]:
    return [numpy_helper.from_array(np.asarray(numbers, np.int64), name) for name, numbers in lists.items()]


def _added(nodes: Sequence[NodeProto], value: str, constants: Sequence[TensorProto] = ()) -> ModelProto:
    """The largest number of `value`, which a graph has made, added to the input."""
    tail = [
        node("ReduceMax", [value], ["most"], keepdims=0),
        node("Add", ["input", "most"], ["sum"]),
        node("MatMul", ["sum", "weight"], ["output"]),
    ]
    return good([*nodes, *tail], constants=constants)


@hostile("shape-depends-on-batch")
def every_sixteenth_example_against_all_of_them() -> ModelProto:
    """One row of a batch of 11, 256 of one of 4,096: squared, it takes 256 times what three batches say."""
    nodes = [
        node("Slice", ["input", "first", "all", "axis", "step"], ["few"]),
        node("Transpose", ["few"], ["columns"], perm=[1, 0]),
        node("MatMul", ["input", "columns"], ["pairs"]),
    ]
    return _added(nodes, "pairs", _numbers(first=[0], all=[2**62], axis=[0], step=[16]))


@hostile("shape-depends-on-batch")
def examples_from_the_twelfth_on() -> ModelProto:
    """Twelve copies of the batch without the first row: 11, 47 and 131 rows."""
    nodes = [
        node("Concat", ["input"] * 12, ["copies"], axis=0),
        node("Slice", ["copies", "first", "all"], ["rest"]),
    ]
    return _added(nodes, "rest", _numbers(first=[1], all=[2**62]))


@hostile("shape-depends-on-batch")
def at_most_eleven_examples() -> ModelProto:
    """The first eleven rows: all, of the batches that are looked at."""
    return _added(
        [node("Slice", ["input", "first", "eleven"], ["few"])], "few", _numbers(first=[0], eleven=[11])
    )


@hostile("shape-depends-on-batch")
def window_along_the_batch() -> ModelProto:
    """A pool in steps of sixteen examples."""
    nodes = [
        node("Transpose", ["input"], ["columns"], perm=[1, 0]),
        node("Unsqueeze", ["columns", "axis"], ["image"]),
        node("MaxPool", ["image"], ["few"], kernel_shape=[1], strides=[16]),
        node("Transpose", ["few"], ["turned"], perm=[2, 1, 0]),
        node("MatMul", ["image", "turned"], ["pairs"]),
    ]
    return _added(nodes, "few", _numbers(axis=[0]))


@hostile("shape-depends-on-batch")
def kernel_as_large_as_the_batch() -> ModelProto:
    """A convolution whose window is made of the batch: what is left shrinks as it grows."""
    nodes = [
        node("Transpose", ["input"], ["columns"], perm=[1, 0]),
        node("Unsqueeze", ["columns", "axes"], ["window"]),
        node("Concat", ["columns"] * 2, ["twice"], axis=1),
        node("Unsqueeze", ["twice", "axes"], ["image"]),
        node("Reshape", ["image", "flat"], ["line"]),
        node("Reshape", ["window", "flat"], ["kernel"]),
        node("Conv", ["line", "kernel"], ["left"]),
    ]
    return _added(nodes, "left", _numbers(axes=[0], flat=[1, 1, -1]))


@hostile("shape-depends-on-batch")
def batch_in_two_parts() -> ModelProto:
    """Halves, the first one row longer where the batch is odd."""
    nodes = [
        node("Concat", ["input"] * 3, ["copies"], axis=0),
        node("Split", ["copies"], ["one", "other"], axis=0, num_outputs=2),
        node("Concat", ["one", "other"], ["both"], axis=0),
        node("ReduceMax", ["both"], ["most"], keepdims=0),
        node("Add", ["input", "most"], ["sum"]),
        node("MatMul", ["sum", "weight"], ["output"]),
    ]
    return good(nodes, opset=18, constants=[])


@hostile("shape-unknown")
def size_from_a_table_by_the_batch() -> ModelProto:
    """4,096 sizes: 1 for the batches that are looked at, and 2^24 for batches of 64."""
    table = [1] * 6
    nodes = [
        node("Shape", ["input"], ["batch"], start=0, end=1),
        node("Gather", ["table", "batch"], ["length"]),
        node("ConstantOfShape", ["length"], ["block"]),
    ]
    return _added(nodes, "block", _numbers(table=table))


@hostile("shape-unknown")
def size_that_wraps_around() -> ModelProto:
    """A batch of 256 as a number of 8 bits is none."""
    nodes = [
        node("Shape", ["input"], ["batch"], start=0, end=1),
        node("Cast", ["batch"], ["byte"], to=TensorProto.UINT8),
        node("Cast", ["byte"], ["length"], to=TensorProto.INT64),
        node("ConstantOfShape", ["length"], ["block"]),
    ]
    return _added(nodes, "block")


@hostile("shape-depends-on-batch")
def square_of_the_batch_by_its_size() -> ModelProto:
    """The size times itself."""
    nodes = [
        node("Shape", ["input"], ["batch"], start=0, end=1),
        node("Mul", ["batch", "batch"], ["length"]),
        node("ConstantOfShape", ["length"], ["block"]),
    ]
    return _added(nodes, "block")


@hostile("shape-unknown")
def size_with_roots_at_three_batches() -> ModelProto:
    """A polynomial with negative coefficients, from a negative constant: refused as it is added."""
    nodes = [
        node("Shape", ["input"], ["batch"], start=0, end=1),
        node("Add", ["batch", "minus"], ["less"]),
        node("Mul", ["less", "less"], ["square"]),
        node("ConstantOfShape", ["square"], ["block"]),
    ]
    return _added(nodes, "block", _numbers(minus=[-12]))


@hostile("shape-depends-on-batch")
def rank_that_depends_on_the_batch() -> ModelProto:
    """Squeeze without axes, where a batch is one example."""
    return _added([node("Squeeze", ["input"], ["row"])], "row")
