"""What the graph takes and gives: exactly what the job describes, for any number of examples."""

from onnx import GraphProto, TensorProto, ValueInfoProto

from chiron.wasm_sandbox.admission.codes import GraphCode, refused
from chiron.wire.contract import BuildRequest, InputType, Task

INPUT, OUTPUT = "input", "output"
_ELEMENT = {InputType.UINT8: TensorProto.UINT8, InputType.FLOAT32: TensorProto.FLOAT}


def input_type(request: BuildRequest) -> int:
    """ONNX element type of the graph's input."""
    return int(_ELEMENT[request.input_dtype])


def output_shape(request: BuildRequest) -> tuple[int, ...]:
    """One example's output: class scores, or the values of a regression."""
    return (request.classes,) if request.task is Task.CLASSIFICATION else tuple(request.target_shape)


def check_interface(graph: GraphProto, request: BuildRequest) -> None:
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
    if tensor.elem_type != input_type(request):
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
