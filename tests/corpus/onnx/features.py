"""Parts of ONNX that reach outside the graph, repeat it, or hide something in it."""

import onnx
from onnx import ModelProto, TensorProto, helper

from tests.corpus.onnx.cases import good, hostile, serialised

_CONDITION = helper.make_tensor("condition", TensorProto.BOOL, [], [True])


def _branch(name: str, inner: list[onnx.NodeProto]) -> onnx.GraphProto:
    output = helper.make_tensor_value_info("taken", TensorProto.FLOAT, None)
    return helper.make_graph([*inner, helper.make_node("Relu", ["input"], ["taken"])], name, [], [output])


def _nested(operator: str, depth: int) -> onnx.NodeProto:
    graph = _branch("innermost", [])
    for level in range(depth):
        attributes = {"body": graph} if operator == "Loop" else {"then_branch": graph, "else_branch": graph}
        inner = helper.make_node(operator, ["condition"], [f"out{level}"], **attributes)
        graph = _branch(f"level{level}", [inner])
    attributes = {"body": graph} if operator == "Loop" else {"then_branch": graph, "else_branch": graph}
    return helper.make_node(operator, ["condition"], ["output"], **attributes)


@hostile("control-flow-not-allowed")
def if_nest() -> ModelProto:
    """If in both branches of If, 12 deep: 4,096 graphs."""
    return good([_nested("If", 11)], constants=[_CONDITION])


@hostile("control-flow-not-allowed")
def loop_nest() -> ModelProto:
    """Loop in Loop, 20 deep."""
    return good([_nested("Loop", 19)], constants=[_CONDITION])


@hostile("control-flow-not-allowed")
def loop_without_a_body() -> ModelProto:
    """The operator alone, without its graph."""
    return good([helper.make_node("Loop", ["", "", "input"], ["output"])])


@hostile("control-flow-not-allowed")
def scan_over_the_batch() -> ModelProto:
    """Scan is a loop too."""
    return good([helper.make_node("Scan", ["input"], ["output"], body=_branch("b", []), num_scan_inputs=1)])


def _function(name: str, calls: str) -> onnx.FunctionProto:
    node = helper.make_node(calls, ["x"], ["y"], domain="local")
    opsets = [helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["x"], ["y"], [node], opsets)


@hostile("function-not-allowed")
def function_that_calls_itself() -> ModelProto:
    """An inliner that trusts it never ends."""
    model = good([helper.make_node("Again", ["input"], ["output"], domain="local")])
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.append(_function("Again", "Again"))
    return model


@hostile("function-not-allowed")
def functions_that_call_each_other() -> ModelProto:
    """A cycle of two."""
    model = good([helper.make_node("Ping", ["input"], ["output"], domain="local")])
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.extend([_function("Ping", "Pong"), _function("Pong", "Ping")])
    return model


@hostile("function-not-allowed")
def functions_that_double() -> ModelProto:
    """Each calls the next twice: 2^30 nodes once inlined."""
    model = good()
    for level in range(30):
        calls = [
            helper.make_node(f"F{level + 1}", ["x"], ["a"], domain="local"),
            helper.make_node(f"F{level + 1}", ["a"], ["y"], domain="local"),
        ]
        opsets = [helper.make_opsetid("local", 1)]
        model.functions.append(helper.make_function("local", f"F{level}", ["x"], ["y"], calls, opsets))
    return model


def _outside(location: str) -> ModelProto:
    model = good()
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return model


@hostile("external-data-not-allowed")
def external_data_of_an_absolute_path() -> ModelProto:
    """Reads a host's file into the weights."""
    return _outside("/etc/passwd")


@hostile("external-data-not-allowed")
def external_data_up_the_tree() -> ModelProto:
    """Reads beside the model."""
    return _outside("../../../../proc/self/environ")


@hostile("external-data-not-allowed")
def external_location_without_a_path() -> ModelProto:
    """Says that the data is elsewhere, and not where."""
    model = good()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model


@hostile("external-data-not-allowed")
def segmented_tensor() -> ModelProto:
    """Data in parts, of which this is one."""
    model = good()
    model.graph.initializer[0].segment.begin = 0
    model.graph.initializer[0].segment.end = 2**40
    return model


@hostile("sparse-not-allowed")
def sparse_initializer() -> ModelProto:
    """One value, and 2^40 that are zero."""
    values = helper.make_tensor("weight", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    model = good()
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**20, 2**20]))
    return model


@hostile("sparse-not-allowed")
def sparse_constant() -> ModelProto:
    """The same in an attribute."""
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, indices, [2**40])
    return good([helper.make_node("Constant", [], ["output"], sparse_value=sparse)])


@hostile("string-not-allowed")
def string_tensor() -> ModelProto:
    """Text as a constant."""
    return good(
        constants=[TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"hello"])]
    )


@hostile("type-not-allowed")
def sequence_input() -> ModelProto:
    """A sequence of tensors as the input."""
    model = good()
    inner = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 4])
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(inner))
    return model


@hostile("feature-not-allowed")
def quantization_annotation() -> ModelProto:
    """An annotation that redirects tensors."""
    model = good()
    model.graph.quantization_annotation.add(tensor_name="weight")
    return model


@hostile("feature-not-allowed")
def training_algorithm_of_its_own() -> ModelProto:
    """A training step in TrainingInfoProto, beside ours."""
    model = good()
    model.training_info[0].algorithm.name = "mine"
    return model


@hostile("control-flow-not-allowed")
def initialization_that_loops() -> ModelProto:
    """The training-info graph never ends."""
    body = _branch("forever", [])
    return good(initial=[helper.make_node("Loop", ["", ""], ["initial.weight"], body=body)])


@hostile("domain-not-allowed")
def custom_domain() -> ModelProto:
    """An operator set of somebody's library."""
    model = good()
    model.opset_import.append(helper.make_opsetid("evil.example", 1))
    return model


@hostile("domain-not-allowed")
def contributed_operator() -> ModelProto:
    """onnxruntime's own extensions, without importing their domain."""
    return good([helper.make_node("FusedMatMul", ["input", "weight"], ["output"], domain="com.microsoft")])


@hostile("domain-not-allowed")
def no_operator_set() -> ModelProto:
    """The checker would assume version 1."""
    model = good()
    del model.opset_import[:]
    return model


@hostile("opset-unsupported")
def opset_of_the_future() -> ModelProto:
    """Version 2^62."""
    return good(opset=2**62)


@hostile("opset-unsupported")
def negative_opset() -> ModelProto:
    """Version -1."""
    return good(opset=-1)


@hostile("ir-version-unsupported")
def old_ir_version() -> ModelProto:
    """Before initializers were apart from inputs."""
    return good(ir_version=3)


@hostile("control-flow-not-allowed")
def deep_graph_nest() -> bytes:
    """A graph in an attribute of a node of a graph, 2,000 deep, written by hand: parsers recurse."""
    from tests.corpus.onnx.encodings import varint

    inner = b""
    for _ in range(2000):
        attribute = b"\x32" + varint(len(inner)) + inner
        node = b"\x2a" + varint(len(attribute)) + attribute
        inner = b"\x0a" + varint(len(node)) + node
    return serialised(good()) + b"\x3a" + varint(len(inner)) + inner
