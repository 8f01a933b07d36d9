"""Small graphs that would take much memory."""

from onnx import ModelProto, TensorProto, helper

from tests.corpus.onnx.cases import good, hostile


@hostile("activations-too-large")
def many_copies_of_a_large_value() -> ModelProto:
    """A gigabyte an example, in steps of 4 MiB."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [1, 2**20, 4])
    nodes = [
        helper.make_node("Unsqueeze", ["input", "axis"], ["rows"]),
        helper.make_node("Expand", ["rows", "shape"], ["v0"]),
    ]
    nodes += [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(64)]
    nodes += [
        helper.make_node("ReduceMax", ["v64"], ["most"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["most", "weight"], ["output"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    return good(nodes, constants=[shape, axis])


@hostile("activations-too-large")
def large_value_whatever_the_batch() -> ModelProto:
    """128 MiB that no example pays for."""
    size = helper.make_tensor("size", TensorProto.INT64, [2], [2**13, 2**12])
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["block"]),
        helper.make_node("ReduceMax", ["block"], ["one"], keepdims=0),
        helper.make_node("Add", ["input", "one"], ["sum"]),
        helper.make_node("MatMul", ["sum", "weight"], ["output"]),
    ]
    return good(nodes, constants=[size])


@hostile("workspace-too-large")
def window_as_large_as_its_image() -> ModelProto:
    """30 × 30 parameters; unrolled, 900 values for each of half a million positions."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [-1, 1, 2, 2])
    nodes = [
        helper.make_node("Reshape", ["input", "shape"], ["image"]),
        helper.make_node("Conv", ["image", "weight"], ["maps"], pads=[400, 400, 400, 400]),
        helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["one"]),
        helper.make_node("Concat", ["one", "one", "one"], ["output"], axis=1),
    ]
    return good(nodes, parameters={"weight": [1, 1, 30, 30]}, constants=[shape])
