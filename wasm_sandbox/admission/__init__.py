"""Graph admission: a builder's ONNX bytes become an `AdmittedGraph`, or are refused with a stable code.

The bytes come from hostile code. They are read in steps, each of which bounds what the next one works on:

 1. **Size**: the envelope's and our own. (graph-too-large)
 2. **Protobuf**: fields are counted and held to those that builders may use, before a parser makes an object
    of any: no functions, graphs in attributes, sparse, external or string tensors. (`protobuf`)
 3. **Versions**: IR 7 to 10, one operator set, ONNX's own, 13 to 21.
 4. **Tensors**: initializers without data are parameters, within the envelope; those with data are small
    constants, finite, and of the size that they claim. (`tensors`)
 5. **Nodes**: sorted, one name a value, listed operators with listed attributes in range; what depends on
    a parameter has a gradient. (`nodes`, `operators`)
 6. **Interface**: `input` and `output` as the job describes them.
 7. **Liveness**: what does not lead to the output is dropped; a parameter among it is refused. (`nodes`)
 8. **Shapes**: ONNX's inference node by node, all dimensions known, in proportion to any batch, and within
    the memory bounds; operands fit one another where ONNX does not look. (`shapes`, `growth`, `operands`)
 9. **Initialization**: every parameter has one, by a graph without inputs or a pretrained tensor of the
    component. (`initialization`)

Nothing is executed and nothing of a parameter's size is allocated. What is admitted is a model put together
anew of the parts that were checked: names of nodes, texts, metadata and declared inner shapes are gone.
"""

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from chiron.wasm_sandbox.admission.addresses import check_addresses
from chiron.wasm_sandbox.admission.growth import BATCHES, Memory, activation_memory, values_by_batch
from chiron.wasm_sandbox.admission.initialization import add_pretrained, read_initialization
from chiron.wasm_sandbox.admission.nodes import (
    buffers,
    check_nodes,
    known_values,
    live_nodes,
    trained_values,
)
from chiron.wasm_sandbox.admission.operands import check_lists, check_operands
from chiron.wasm_sandbox.admission.operators import OPERATORS
from chiron.wasm_sandbox.admission.protobuf import scan
from chiron.wasm_sandbox.admission.shapes import Section
from chiron.wasm_sandbox.admission.tensors import Tensors, asset_of, read_initializers
from chiron.wasm_sandbox.assets import Assets
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.graph import AdmittedGraph, Parameter
from chiron.wasm_sandbox.graph_codes import SENTENCES, GraphCode, refused
from chiron.wasm_sandbox.limits import (
    HIGHEST_IR,
    HIGHEST_OPSET,
    LOWEST_IR,
    LOWEST_OPSET,
    GraphLimits,
)
from chiron.wire.contract import BuildRequest, Envelope, InputType, Oblivious, Task

INPUT, OUTPUT = "input", "output"
_ELEMENT = {InputType.UINT8: TensorProto.UINT8, InputType.FLOAT32: TensorProto.FLOAT}
DEFAULT_LIMITS = GraphLimits()


def admit(
    graph: bytes,
    request: BuildRequest,
    envelope: Envelope,
    *,
    assets: Assets | None = None,
    limits: GraphLimits = DEFAULT_LIMITS,
    oblivious: Oblivious = Oblivious.CLAMPED,
) -> AdmittedGraph:
    """Check a builder's graph against its job and make it ready for the runtime.

    Args:
        graph: serialised ONNX `ModelProto`.
        request: what the builder was asked for.
        envelope: the builder's public bounds.
        assets: the pretrained tensors of the component. Without them a graph that asks for some is admitted,
            but has no initial values: for trainers that get these from another.
        limits: our own bounds.
        oblivious: whether operators whose addresses depend on data are refused.

    Raises:
        GraphRefused: the codes are `GraphCode`; nothing of a refused graph is kept.
    """
    try:
        return _admitted(graph, request, envelope, assets, limits, oblivious)
    except SandboxError:
        raise
    except Exception as error:
        # Native libraries raise what they like on a hostile graph: it is not admitted, and nothing else ends.
        raise refused(GraphCode.GRAPH_INVALID, type(error).__name__) from error


def _admitted(
    graph: bytes,
    request: BuildRequest,
    envelope: Envelope,
    assets: Assets | None,
    limits: GraphLimits,
    oblivious: Oblivious,
) -> AdmittedGraph:
    if len(graph) > min(envelope.max_graph_bytes, limits.graph_bytes):
        raise refused(GraphCode.GRAPH_TOO_LARGE, f"{len(graph)} bytes")
    scan(graph, limits)
    model = _parse(graph)
    opset = _check_versions(model)
    if len(model.graph.initializer) > limits.initializers:
        raise refused(GraphCode.TOO_MANY_TENSORS)
    tensors = read_initializers(
        model.graph.initializer, limits, min(envelope.max_parameters, request.max_parameters)
    )
    names = [INPUT, *(tensor.name for tensor in model.graph.initializer)]
    check_nodes(model.graph.node, names, OPERATORS, limits)
    known = known_values(model.graph.node, tensors.constants)
    check_lists(model.graph.node, known, limits)
    _check_interface(model.graph, request)
    nodes = live_nodes(model.graph.node, OUTPUT, tensors.parameters)
    section = Section(nodes, tensors.constants, known, tensors.parameters, opset, model.ir_version)
    memory = _check_shapes(section, request, limits, oblivious)
    pretrained = {t.name: asset for t in tensors.parameters if (asset := asset_of(t)) is not None}
    drawn = [tensor for tensor in tensors.parameters if tensor.name not in pretrained]
    initialization = read_initialization(model.training_info, drawn, opset, model.ir_version, limits)
    if assets is not None:
        add_pretrained(initialization, tensors, pretrained, assets)
    return AdmittedGraph(
        forward=_forward(section, request),
        initialization=initialization,
        parameters=_parameters(nodes, tensors),
        activation_bytes_per_example=memory.per_example,
        activation_bytes_fixed=memory.fixed,
    )


def _parse(graph: bytes) -> ModelProto:
    try:
        model: ModelProto = ModelProto.FromString(graph)
    except Exception as error:
        raise refused(GraphCode.GRAPH_MALFORMED, type(error).__name__) from None
    return model


def _check_versions(model: ModelProto) -> int:
    """The operator set's version."""
    if not LOWEST_IR <= model.ir_version <= HIGHEST_IR:
        raise refused(GraphCode.IR_VERSION_UNSUPPORTED, str(model.ir_version))
    domains = [entry.domain for entry in model.opset_import]
    if domains not in ([""], ["ai.onnx"]):
        raise refused(GraphCode.DOMAIN_NOT_ALLOWED, ", ".join(domains) or "none")
    version = int(model.opset_import[0].version)
    if not LOWEST_OPSET <= version <= HIGHEST_OPSET:
        raise refused(GraphCode.OPSET_UNSUPPORTED, str(version))
    return version


def _input_type(request: BuildRequest) -> int:
    """ONNX element type of the graph's input."""
    return int(_ELEMENT[request.input_dtype])


def output_shape(request: BuildRequest) -> tuple[int, ...]:
    """Shape of one example's output: class scores, or the values of a regression."""
    return (request.classes,) if request.task is Task.CLASSIFICATION else tuple(request.target_shape)


def _check_interface(graph: GraphProto, request: BuildRequest) -> None:
    """Hold the declared input and output to the job; the output's shape is held to it by inference.

    Raises:
        GraphRefused: input-mismatch, output-mismatch.
    """
    initializers = {tensor.name for tensor in graph.initializer}
    # Before IR version 4, and by habit since, initializers are listed among the inputs.
    inputs = [value for value in graph.input if value.name not in initializers]
    if [value.name for value in inputs] != [INPUT]:
        raise refused(GraphCode.INPUT_MISMATCH, f"{len(inputs)} inputs")
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type != _input_type(request):
        raise refused(GraphCode.INPUT_MISMATCH, f"element type {tensor.elem_type}")
    if _batch_is_fixed(inputs[0]) or _example(inputs[0]) != tuple(request.input_shape):
        raise refused(GraphCode.INPUT_MISMATCH, "shape is not [N, …] of the job's input")
    if [value.name for value in graph.output] != [OUTPUT]:
        raise refused(GraphCode.OUTPUT_MISMATCH, f"{len(graph.output)} outputs")
    if graph.output[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise refused(GraphCode.OUTPUT_MISMATCH, "element type is not float32")


def _batch_is_fixed(value: ValueInfoProto) -> bool:
    dims = value.type.tensor_type.shape.dim
    return not dims or dims[0].HasField("dim_value")


def _example(value: ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim[1:]
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def _check_shapes(
    section: Section, request: BuildRequest, limits: GraphLimits, oblivious: Oblivious
) -> Memory:
    values = values_by_batch(section, INPUT, _input_type(request), request.input_shape, limits)
    for batch, found in zip(BATCHES, values, strict=True):
        if found[OUTPUT].dims != (batch, *output_shape(request)):
            detail = f"shape {list(found[OUTPUT].dims)} for {batch} examples"
            raise refused(GraphCode.OUTPUT_MISMATCH, detail)
    check_operands(section.nodes, {name: value.dims for name, value in values[0].items()})
    types = {name: value.data_type for name, value in values[0].items()}
    trained = trained_values(section.nodes, (tensor.name for tensor in section.parameters))
    if any(types[name] != TensorProto.FLOAT for name in trained):
        raise refused(GraphCode.OPERATOR_NOT_TRAINABLE, "a value of a parameter is not float32")
    for node in section.nodes:
        kinds = {types[name] for name in node.input if name}
        if OPERATORS[node.op_type].float_only and kinds != {TensorProto.FLOAT}:
            raise refused(GraphCode.TYPE_NOT_ALLOWED, f"{node.op_type} of integers")
    if oblivious is Oblivious.STRICT:
        check_addresses(section.nodes, section.known, values)
    return activation_memory(section, values, limits)


def _parameters(nodes: list[NodeProto], tensors: Tensors) -> tuple[Parameter, ...]:
    untrained = buffers(nodes, tensors.parameters)
    return tuple(
        Parameter(tensor.name, tuple(tensor.dims), tensor.name not in untrained)
        for tensor in tensors.parameters
    )


def _forward(section: Section, request: BuildRequest) -> ModelProto:
    graph = helper.make_graph(
        [_kept(number, node) for number, node in enumerate(section.nodes)],
        "graph",
        [helper.make_tensor_value_info(INPUT, _input_type(request), ["N", *request.input_shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["N", *output_shape(request)])],
        initializer=section.constants,
    )
    opsets = [helper.make_opsetid("", section.opset)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=section.ir_version, producer_name="chiron"
    )


def _kept(number: int, node: NodeProto) -> NodeProto:
    kept = NodeProto(op_type=node.op_type, input=node.input, output=node.output)
    kept.attribute.extend(node.attribute)
    if node.op_type == "LayerNormalization":
        # Its gradient reads the mean and the inverse deviation.
        kept.output[:] = [node.output[0], f"·mean{number}", f"·inverse{number}"]
    return kept


__all__ = [
    "DEFAULT_LIMITS",
    "INPUT",
    "OUTPUT",
    "SENTENCES",
    "GraphCode",
    "GraphLimits",
    "admit",
]
