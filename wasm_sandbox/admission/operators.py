"""The operators that a graph may use, and the attributes each may have, with their ranges.

Ranges matter: a zero stride, dilation or group divides by zero in native code. An attribute that is not
listed is refused. `TRAINED` operators may depend on parameters: onnxruntime-training has their gradients
(a test makes it differentiate every one). The others may only work on the input and on constants.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from onnx import AttributeProto, TensorProto

ALLOWED_TYPES = frozenset(
    {TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL}
)


class Part(Enum):
    """Where in a graph an operator may stand."""

    TRAINED = "trained"
    """Anywhere; its output depends on parameters if one of its inputs does."""
    PREPROCESSING = "preprocessing"
    """Only where nothing depends on a parameter."""
    SHAPE = "shape"
    """Anywhere; its output holds sizes, and depends on no parameter."""


@dataclass(frozen=True)
class Attribute:
    """One attribute's type and range; `most` bounds how many numbers a list has."""

    kind: int
    low: float = 0
    high: float = 0
    most: int = 8
    words: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class Operator:
    """One operator."""

    part: Part = Part.TRAINED
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    least_inputs: int = 0
    most_inputs: int | None = None
    """ONNX's own bounds hold beside these two."""
    gaps: bool = False
    """Inputs may be left out in between. Else gradients read what is not there."""
    most_outputs: int = 1
    float_only: bool = False
    """Every input is float32: the integer form can trap."""
    all_outputs_used: bool = False


def _int(low: int, high: int) -> Attribute:
    return Attribute(AttributeProto.INT, low, high)


def _ints(low: int, high: int) -> Attribute:
    return Attribute(AttributeProto.INTS, low, high)


def _float(low: float = -1e30, high: float = 1e30) -> Attribute:
    return Attribute(AttributeProto.FLOAT, low, high)


_AXIS = _int(-8, 7)
_AXES = _ints(-8, 7)
_FLAG = _int(0, 1)
_TENSOR = Attribute(AttributeProto.TENSOR)
_AUTO_PAD = Attribute(
    AttributeProto.STRING, words=frozenset({b"NOTSET", b"SAME_UPPER", b"SAME_LOWER", b"VALID"})
)
_WINDOW = {
    "auto_pad": _AUTO_PAD,
    "dilations": _ints(1, 1024),
    "kernel_shape": _ints(1, 4096),
    "pads": _ints(0, 4096),
    "strides": _ints(1, 4096),
}
# With a ceil_mode of 1 a window can lie outside of the image: its gradient is written out of bounds.
_POOL = {**_WINDOW, "ceil_mode": _int(0, 0)}
_REDUCE = {"keepdims": _FLAG, "axes": _AXES, "noop_with_empty_axes": _FLAG}
_TYPES = {"to": _int(1, 32), "saturate": _FLAG}
SHAPE_INPUTS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}
"""Which input of an operator is a shape: its numbers are dimensions, and bounded as such."""
LIST_INPUTS: Mapping[str, tuple[int, ...]] = {
    "OneHot": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}
"""Which inputs of an operator are numbers that its output's shape follows from: they are constants."""

_PLAIN_TRAINED = (
    "Abs", "Add", "Cos", "Erf", "Exp", "Expand", "GlobalAveragePool", "Identity", "Log", "MatMul",
    "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Sigmoid", "Sin", "Sqrt", "Sub", "Tanh",
    "Where",
)  # fmt: skip
_PLAIN_PREPROCESSING = (
    "And", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or",
    "Round", "Sign",
)  # fmt: skip
_WITH_ATTRIBUTES = {
    # Not trained: the CPU kernel of its gradient answers an empty tensor (seen with 1.19.2).
    "AveragePool": Operator(Part.PREPROCESSING, {**_POOL, "count_include_pad": _FLAG}),
    # In the graph both stand in their form for inference; training mode is the runtime's business.
    "BatchNormalization": Operator(
        attributes={"epsilon": _float(1e-12, 1.0), "momentum": _float(0.0, 1.0), "training_mode": _int(0, 0)},
        most_inputs=5,
    ),
    "Dropout": Operator(attributes={"seed": _int(0, 2**31)}, most_inputs=2),
    "Cast": Operator(attributes=_TYPES),
    "Clip": Operator(float_only=True, gaps=True),
    "Concat": Operator(attributes={"axis": _AXIS}),
    "Conv": Operator(attributes={**_WINDOW, "group": _int(1, 65_536)}),
    "Div": Operator(float_only=True),
    "Flatten": Operator(attributes={"axis": _AXIS}),
    "Gather": Operator(attributes={"axis": _AXIS}),
    "Gemm": Operator(
        attributes={"alpha": _float(), "beta": _float(), "transA": _FLAG, "transB": _FLAG}, float_only=True
    ),
    # Without its bias the gradient ends the process.
    "LayerNormalization": Operator(
        least_inputs=3, attributes={"axis": _AXIS, "epsilon": _float(1e-12, 1.0), "stash_type": _int(1, 1)}
    ),
    "LeakyRelu": Operator(attributes={"alpha": _float()}),
    "LogSoftmax": Operator(attributes={"axis": _AXIS}),
    "MaxPool": Operator(attributes={**_POOL, "storage_order": _int(0, 0)}),
    "ReduceMean": Operator(attributes=_REDUCE, float_only=False),
    "ReduceSum": Operator(attributes=_REDUCE, float_only=False),
    "Reshape": Operator(attributes={"allowzero": _int(0, 0)}),
    "Slice": Operator(gaps=True),
    "Softmax": Operator(attributes={"axis": _AXIS}),
    # Its gradient forgets outputs that nothing uses, so none may be.
    "Split": Operator(
        most_outputs=16, all_outputs_used=True, attributes={"axis": _AXIS, "num_outputs": _int(1, 16)}
    ),
    "Squeeze": Operator(),
    "Transpose": Operator(attributes={"perm": _ints(0, 7)}),
    "Unsqueeze": Operator(),
}
_ELSEWHERE = {
    "ArgMax": Operator(Part.PREPROCESSING, {"axis": _AXIS, "keepdims": _FLAG, "select_last_index": _FLAG}),
    "Constant": Operator(
        Part.PREPROCESSING,
        {
            "value": _TENSOR,
            "value_float": _float(),
            "value_floats": Attribute(AttributeProto.FLOATS, -1e30, 1e30, most=4096),
            "value_int": _int(-(2**63), 2**63 - 1),
            "value_ints": Attribute(AttributeProto.INTS, -(2**63), 2**63 - 1, most=4096),
        },
    ),
    "ConstantOfShape": Operator(Part.PREPROCESSING, {"value": _TENSOR}),
    "OneHot": Operator(Part.PREPROCESSING, {"axis": _AXIS}),
    "ReduceMax": Operator(Part.PREPROCESSING, _REDUCE),
    "ReduceMin": Operator(Part.PREPROCESSING, _REDUCE),
    "Shape": Operator(Part.SHAPE, {"start": _int(-8, 8), "end": _int(-8, 8)}),
}

OPERATORS: Mapping[str, Operator] = {
    **{name: Operator() for name in _PLAIN_TRAINED},
    **{name: Operator(Part.PREPROCESSING) for name in _PLAIN_PREPROCESSING},
    **_WITH_ATTRIBUTES,
    **_ELSEWHERE,
}
"""The forward graph's operators, all of ONNX's default domain."""

_RANDOM = {"dtype": _int(1, 1), "seed": _float(), "shape": _ints(1, 2**24)}
INITIALIZERS: Mapping[str, Operator] = {
    # A deviation of 0, or a lower bound above the upper, ends the process in a C++ assertion.
    "RandomNormal": Operator(attributes={**_RANDOM, "mean": _float(), "scale": _float(1e-12)}),
    "RandomUniform": Operator(attributes={**_RANDOM, "low": _float(), "high": _float()}),
    **{name: OPERATORS[name] for name in ("Constant", "ConstantOfShape")},
    **{name: OPERATORS[name] for name in ("Add", "Clip", "Concat", "Div", "Identity", "Mul", "Sub")},
    **{name: OPERATORS[name] for name in ("Reshape", "Transpose")},
}
"""The initialization graph's operators: no input, no loop, nothing that grows but by its own shape."""

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
