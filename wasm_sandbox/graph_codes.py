"""Why a graph is not admitted: one stable code and one sentence each.

What the graph says of itself (names, numbers) may hold data values that the builder was granted, so it
never becomes part of the sentence: it goes into `GraphRefused.detail`, for a rehearsal only.
"""

from enum import StrEnum

from chiron.wasm_sandbox.errors import GraphRefused

_DETAIL_CHARACTERS = 300


class GraphCode(StrEnum):
    """Every code that admission can end with."""

    GRAPH_TOO_LARGE = "graph-too-large"
    GRAPH_TOO_COMPLEX = "graph-too-complex"
    GRAPH_MALFORMED = "graph-malformed"
    GRAPH_INVALID = "graph-invalid"
    IR_VERSION_UNSUPPORTED = "ir-version-unsupported"
    OPSET_UNSUPPORTED = "opset-unsupported"
    DOMAIN_NOT_ALLOWED = "domain-not-allowed"
    FUNCTION_NOT_ALLOWED = "function-not-allowed"
    CONTROL_FLOW_NOT_ALLOWED = "control-flow-not-allowed"
    EXTERNAL_DATA_NOT_ALLOWED = "external-data-not-allowed"
    SPARSE_NOT_ALLOWED = "sparse-not-allowed"
    STRING_NOT_ALLOWED = "string-not-allowed"
    TYPE_NOT_ALLOWED = "type-not-allowed"
    FEATURE_NOT_ALLOWED = "feature-not-allowed"
    NAME_INVALID = "name-invalid"
    OPERATOR_NOT_ALLOWED = "operator-not-allowed"
    OPERATOR_NOT_TRAINABLE = "operator-not-trainable"
    ATTRIBUTE_NOT_ALLOWED = "attribute-not-allowed"
    GRAPH_NOT_SORTED = "graph-not-sorted"
    TOO_MANY_NODES = "too-many-nodes"
    TOO_MANY_TENSORS = "too-many-tensors"
    CONSTANT_TOO_LARGE = "constant-too-large"
    CONSTANT_INVALID = "constant-invalid"
    PARAMETERS_EXCEED_ENVELOPE = "parameters-exceed-envelope"
    PARAMETERS_MISSING = "parameters-missing"
    PARAMETER_INVALID = "parameter-invalid"
    INPUT_MISMATCH = "input-mismatch"
    OUTPUT_MISMATCH = "output-mismatch"
    SHAPE_UNKNOWN = "shape-unknown"
    SHAPE_OVERFLOW = "shape-overflow"
    SHAPE_DEPENDS_ON_BATCH = "shape-depends-on-batch"
    ACTIVATIONS_TOO_LARGE = "activations-too-large"
    WORKSPACE_TOO_LARGE = "workspace-too-large"
    OPERANDS_MISMATCH = "operands-mismatch"
    ADDRESSES_DEPEND_ON_DATA = "addresses-depend-on-data"
    INITIALIZATION_MISSING = "initialization-missing"
    INITIALIZATION_NOT_ALLOWED = "initialization-not-allowed"
    INITIALIZATION_MISMATCH = "initialization-mismatch"
    INITIALIZATION_TOO_LARGE = "initialization-too-large"
    ASSET_UNKNOWN = "asset-unknown"
    ASSET_INVALID = "asset-invalid"


SENTENCES = {
    GraphCode.GRAPH_TOO_LARGE: "the graph is larger than the envelope allows",
    GraphCode.GRAPH_TOO_COMPLEX: "the graph consists of more protobuf fields than are read",
    GraphCode.GRAPH_MALFORMED: "the bytes are not an ONNX model",
    GraphCode.GRAPH_INVALID: "the ONNX checker or its shape inference refuses the graph",
    GraphCode.IR_VERSION_UNSUPPORTED: "the model's IR version is not 7 to 10",
    GraphCode.OPSET_UNSUPPORTED: "the model's opset is not 13 to 21",
    GraphCode.DOMAIN_NOT_ALLOWED: "the graph uses an operator set other than ONNX's own",
    GraphCode.FUNCTION_NOT_ALLOWED: "the model defines functions",
    GraphCode.CONTROL_FLOW_NOT_ALLOWED: "the graph holds a graph (If, Loop, Scan)",
    GraphCode.EXTERNAL_DATA_NOT_ALLOWED: "a tensor's data is outside the model",
    GraphCode.SPARSE_NOT_ALLOWED: "the graph holds a sparse tensor",
    GraphCode.STRING_NOT_ALLOWED: "the graph holds a string tensor",
    GraphCode.TYPE_NOT_ALLOWED: "a value is not a tensor of float32, uint8, int32, int64 or bool",
    GraphCode.FEATURE_NOT_ALLOWED: "the model uses a feature of ONNX that builders may not use",
    GraphCode.NAME_INVALID: "a name is empty, too long, not printable ASCII or given twice",
    GraphCode.OPERATOR_NOT_ALLOWED: "the graph uses an operator that is not allowed",
    GraphCode.OPERATOR_NOT_TRAINABLE: "an operator without gradient depends on a parameter",
    GraphCode.ATTRIBUTE_NOT_ALLOWED: "an operator has an attribute or an input that is not allowed there",
    GraphCode.GRAPH_NOT_SORTED: "a node uses a value that no earlier node makes (cycles end here too)",
    GraphCode.TOO_MANY_NODES: "the graph has too many nodes",
    GraphCode.TOO_MANY_TENSORS: "the graph has too many initializers, or a node too many inputs or outputs",
    GraphCode.CONSTANT_TOO_LARGE: "the constants are larger than constants may be",
    GraphCode.CONSTANT_INVALID: "a constant's data does not fit its shape, or is out of range",
    GraphCode.PARAMETERS_EXCEED_ENVELOPE: "the graph has more parameters than the envelope allows",
    GraphCode.PARAMETERS_MISSING: "the graph has no parameter to train",
    GraphCode.PARAMETER_INVALID: "a parameter is not float32, or is no operand of a node",
    GraphCode.INPUT_MISMATCH: "the graph's input is not `input` [N, …] as the job describes it",
    GraphCode.OUTPUT_MISMATCH: "the graph's output is not `output` [N, …] as the job describes it",
    GraphCode.SHAPE_UNKNOWN: "a value's shape is not known before the graph runs",
    GraphCode.SHAPE_OVERFLOW: "a shape has a dimension, a rank or a size that is out of range",
    GraphCode.SHAPE_DEPENDS_ON_BATCH: "a value's size does not grow in proportion to the batch",
    GraphCode.ACTIVATIONS_TOO_LARGE: "an example's intermediate values take too much memory",
    GraphCode.WORKSPACE_TOO_LARGE: "an operator's work space takes too much memory",
    GraphCode.OPERANDS_MISMATCH: "an operator's operands do not fit one another, or its window its input",
    GraphCode.ADDRESSES_DEPEND_ON_DATA: "an operator has no form whose addresses do not depend on data",
    GraphCode.INITIALIZATION_MISSING: "a parameter has no initialization, or one has no parameter",
    GraphCode.INITIALIZATION_NOT_ALLOWED: "the initialization graph uses what it may not use",
    GraphCode.INITIALIZATION_MISMATCH: "an initialization's shape or type is not its parameter's",
    GraphCode.INITIALIZATION_TOO_LARGE: "the initialization graph makes larger values than it may",
    GraphCode.ASSET_UNKNOWN: "a parameter asks for a pretrained tensor that the builder does not carry",
    GraphCode.ASSET_INVALID: "a pretrained tensor is not float32 of its parameter's shape",
}


def refused(code: GraphCode, detail: str = "") -> GraphRefused:
    """The error of a code, with its sentence."""
    return GraphRefused(code, SENTENCES[code], detail[:_DETAIL_CHARACTERS])
