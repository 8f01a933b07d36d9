"""Inputs and outputs other than the job's."""

from onnx import ModelProto, TensorProto, helper

from tests.corpus.onnx.cases import good, hostile


@hostile("input-mismatch")
def input_of_another_shape() -> ModelProto:
    """[N, 5] for a job of 4 columns."""
    model = good(parameters={"weight": [5, 3]})
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 5]))
    return model


@hostile("input-mismatch")
def input_of_another_type() -> ModelProto:
    """Bytes for a job of floats."""
    model = good()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


@hostile("input-mismatch")
def input_of_a_fixed_batch() -> ModelProto:
    """One example at a time only."""
    model = good()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4]))
    return model


@hostile("input-mismatch")
def second_input() -> ModelProto:
    """Labels, perhaps?"""
    model = good()
    model.graph.input.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]))
    return model


@hostile("name-invalid")
def input_that_is_a_parameter_too() -> ModelProto:
    """The data would be trained."""
    return good(parameters={"weight": [4, 3], "input": [4]})


@hostile("output-mismatch")
def output_of_another_shape() -> ModelProto:
    """Four scores for three classes."""
    return good(parameters={"weight": [4, 4]})


@hostile("output-mismatch")
def output_that_is_the_input_transposed() -> ModelProto:
    """Examples where classes should be."""
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Transpose", ["scores"], ["output"], perm=[1, 0]),
    ]
    return good(nodes)


@hostile("output-mismatch")
def second_output() -> ModelProto:
    """The input once more, beside the scores."""
    model = good()
    model.graph.output.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4]))
    return model


@hostile("output-mismatch")
def output_that_nothing_makes() -> ModelProto:
    """The graph ends nowhere."""
    return good([helper.make_node("MatMul", ["input", "weight"], ["result"])])


@hostile("output-mismatch")
def no_graph_output() -> ModelProto:
    """All for nothing."""
    model = good()
    del model.graph.output[:]
    return model
