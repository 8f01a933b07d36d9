"""Nodes that are not in order, not in the table, or whose attributes divide by zero."""

from typing import Any

from onnx import ModelProto, NodeProto, TensorProto, helper

from tests.corpus.onnx.cases import drawn, good, hostile

_PRODUCT = helper.make_node("MatMul", ["input", "weight"], ["output"])


@hostile("graph-not-sorted")
def cycle_of_two() -> ModelProto:
    """Two nodes that each wait for the other."""
    return good(
        [
            helper.make_node("Add", ["input", "b"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "weight"], ["output"]),
        ]
    )


@hostile("graph-not-sorted")
def node_that_feeds_itself() -> ModelProto:
    """Its own output is its input."""
    return good([helper.make_node("Add", ["input", "output"], ["output"])])


@hostile("graph-not-sorted")
def unknown_value() -> ModelProto:
    """A value that nobody makes."""
    return good([helper.make_node("MatMul", ["input", "elsewhere"], ["output"])])


@hostile("name-invalid")
def value_given_twice() -> ModelProto:
    """The second product overwrites the first."""
    return good([_PRODUCT, _PRODUCT])


@hostile("name-invalid")
def parameter_overwritten() -> ModelProto:
    """A node's output has a parameter's name."""
    return good([helper.make_node("Relu", ["input"], ["weight"]), _PRODUCT])


@hostile("name-invalid")
def initializer_without_a_name() -> ModelProto:
    """An empty name stands for an absent input."""
    model = good()
    model.graph.initializer.append(TensorProto(data_type=1, dims=[1]))
    return model


@hostile("too-many-nodes")
def thousands_of_nodes() -> ModelProto:
    """Ten thousand activations in a row."""
    chain = [helper.make_node("Relu", [f"v{i}" if i else "input"], [f"v{i + 1}"]) for i in range(10_000)]
    return good([*chain, helper.make_node("MatMul", ["v10000", "weight"], ["output"])])


@hostile("too-many-tensors")
def node_of_many_inputs() -> ModelProto:
    """Concat of ten thousand."""
    return good([helper.make_node("Concat", ["input"] * 10_000, ["output"], axis=1)])


@hostile("too-many-tensors")
def thousands_of_initializers() -> ModelProto:
    """One element each."""
    return good(parameters={f"p{i}": [1] for i in range(3000)})


@hostile("operator-not-allowed")
def unlisted_operator() -> ModelProto:
    """NonZero makes a shape that depends on data."""
    return good([helper.make_node("NonZero", ["input"], ["output"])])


@hostile("operator-not-allowed")
def randomness_in_the_forward_graph() -> ModelProto:
    """Predictions must not be drawn."""
    return good([helper.make_node("RandomNormalLike", ["input"], ["noise"]), _PRODUCT])


@hostile("operator-not-trainable")
def comparison_of_a_trained_value() -> ModelProto:
    """Greater has no gradient."""
    return good(
        [
            helper.make_node("MatMul", ["input", "weight"], ["scores"]),
            helper.make_node("Greater", ["scores", "scores"], ["flags"]),
            helper.make_node("Cast", ["flags"], ["output"], to=TensorProto.FLOAT),
        ]
    )


@hostile("operator-not-trainable")
def trained_value_as_an_integer() -> ModelProto:
    """A cast to integers stops every gradient."""
    return good(
        [
            helper.make_node("MatMul", ["input", "weight"], ["scores"]),
            helper.make_node("Cast", ["scores"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Cast", ["whole"], ["output"], to=TensorProto.FLOAT),
        ]
    )


@hostile("attribute-not-allowed")
def split_that_has_more_parts_than_it_says() -> ModelProto:
    """ONNX's shape inference reads past the end of a vector, and ends the process."""
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Split", ["scores"], ["a", "b"], axis=1, num_outputs=1),
        helper.make_node("Add", ["a", "b"], ["output"]),
    ]
    return good(nodes, opset=18)


@hostile("attribute-not-allowed")
def layer_norm_without_its_bias() -> ModelProto:
    """onnxruntime-training's gradient reads the input that is not there, and ends the process."""
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("LayerNormalization", ["scores", "scale", ""], ["output"]),
    ]
    return good(nodes, parameters={"weight": [4, 3], "scale": [3]})


@hostile("attribute-not-allowed")
def optional_output() -> ModelProto:
    """A dropout's mask in a prediction."""
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Dropout", ["scores"], ["output", "mask"]),
    ]
    return good(nodes)


@hostile("operator-not-trainable")
def split_of_which_a_part_is_dropped() -> ModelProto:
    """onnxruntime-training makes a gradient of the wrong size of it."""
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Split", ["scores", "sizes"], ["dropped", "kept"], axis=1),
        helper.make_node("Concat", ["kept", "kept", "kept"], ["output"], axis=1),
    ]
    return good(nodes, constants=[helper.make_tensor("sizes", TensorProto.INT64, [2], [2, 1])])


def _convolution(**attributes: Any) -> ModelProto:
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [-1, 1, 2, 2])
    nodes: list[NodeProto] = [
        helper.make_node("Reshape", ["input", "shape"], ["image"]),
        helper.make_node("Conv", ["image", "weight"], ["maps"], **attributes),
        helper.make_node("Flatten", ["maps"], ["output"]),
    ]
    return good(nodes, parameters={"weight": [3, 1, 2, 2]}, constants=[shape])


@hostile("attribute-not-allowed")
def stride_of_zero() -> ModelProto:
    """Divides by zero in native code."""
    return _convolution(strides=[0, 0])


@hostile("attribute-not-allowed")
def group_of_zero() -> ModelProto:
    """Divides by zero in native code."""
    return _convolution(group=0)


@hostile("attribute-not-allowed")
def negative_padding() -> ModelProto:
    """Reads before the image."""
    return _convolution(pads=[-1, -1, -1, -1])


@hostile("attribute-not-allowed")
def padding_of_2_to_the_62() -> ModelProto:
    """The sum of two paddings overflows."""
    return _convolution(pads=[2**62, 2**62, 2**62, 2**62])


@hostile("attribute-not-allowed")
def attribute_given_twice() -> ModelProto:
    """Which one counts?"""
    model = _convolution(group=1)
    model.graph.node[1].attribute.append(helper.make_attribute("group", 3))
    return model


@hostile("attribute-not-allowed")
def attribute_of_another_type() -> ModelProto:
    """A list of a million numbers where one is expected."""
    return _convolution(group=[1] * 100_000)


@hostile("attribute-not-allowed")
def epsilon_that_is_not_a_number() -> ModelProto:
    """NaN in every activation."""
    names = ["scale", "bias", "mean", "variance"]
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("BatchNormalization", ["scores", *names], ["output"], epsilon=float("nan")),
    ]
    return good(nodes, parameters={"weight": [4, 3], **{name: [3] for name in names}})


@hostile("attribute-not-allowed")
def batch_norm_that_always_trains() -> ModelProto:
    """Training mode in a prediction makes one owner's rows depend on another's."""
    names = ["scale", "bias", "mean", "variance"]
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("BatchNormalization", ["scores", *names], ["output"], training_mode=1),
    ]
    return good(nodes, parameters={"weight": [4, 3], **{name: [3] for name in names}})


@hostile("type-not-allowed")
def integer_division() -> ModelProto:
    """By zero, it ends the process."""
    nodes = [
        helper.make_node("Cast", ["input"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Div", ["whole", "whole"], ["ones"]),
        helper.make_node("Cast", ["ones"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "weight"], ["output"]),
    ]
    return good(nodes)


@hostile("type-not-allowed")
def double_precision() -> ModelProto:
    """Twice the memory of what was counted."""
    nodes = [
        helper.make_node("Cast", ["input"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["wide"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numbers", "weight"], ["output"]),
    ]
    return good(nodes)


@hostile("graph-invalid")
def operands_that_do_not_fit() -> ModelProto:
    """A product of [N, 4] and [5, 3]."""
    return good(parameters={"weight": [5, 3]})


@hostile("graph-invalid")
def operator_without_its_inputs() -> ModelProto:
    """MatMul of one matrix."""
    return good([helper.make_node("MatMul", ["weight"], ["output"])])


@hostile("graph-invalid")
def node_that_makes_nothing() -> ModelProto:
    """No output at all."""
    return good([helper.make_node("Relu", ["input"], []), _PRODUCT])


@hostile("parameter-invalid")
def running_mean_that_is_a_weight_too() -> ModelProto:
    """One tensor, trained and tracked."""
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("BatchNormalization", ["scores", "scale", "mean", "mean", "variance"], ["output"]),
    ]
    parameters = {"weight": [4, 3], "scale": [3], "mean": [3], "variance": [3]}
    return good(nodes, parameters=parameters, initial=[drawn(n, s) for n, s in parameters.items()])
