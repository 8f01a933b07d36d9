"""Which of an operator's accesses its values decide, and what a job does about it.

The tables are those of docs/graph-contract.md, word for word. The forms themselves are
`chiron.runtime.training.rewrites`; what they cannot do is refused here, by the operator's name.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from onnx import NodeProto, TensorProto, numpy_helper

from chiron.wasm_sandbox.admission.shapes import Values
from chiron.wasm_sandbox.graph_codes import GraphCode, refused

POWERS = frozenset({0.5, 1.0, 2.0, 3.0})
"""Exponents for which Pow has a form without a table."""


class Addresses(NamedTuple):
    """What the values of an operator decide, in words."""

    forward: str
    backward: str
    clamped: str
    strict: str


_BRANCH = Addresses("a branch within a page", "the same", "-", "as it is")
ADDRESSES: Mapping[str, Addresses] = {
    **dict.fromkeys(
        ("Abs", "And", "ArgMax", "Ceil", "Clip", "Floor", "LeakyRelu", "Or", "Relu", "Round", "Sign"),
        _BRANCH,
    ),
    "Cos": Addresses("a branch by size, a table", "the same", "-", "refused"),
    "Gather": Addresses(
        "reads where its index says",
        "adds where its index says",
        "the index is held to the bounds, and counted from 0",
        "a matrix of zeros and ones times the table; other axes than the first are refused",
    ),
    "Log": Addresses("libm's table", "none", "-", "refused"),
    "LogSoftmax": Addresses("libm's table", "libm's table", "-", "halvings and a series"),
    "Max": Addresses(
        "reads one of two only if it is larger",
        "none",
        "-",
        "compared, and both times the outcome and its opposite, held to float32",
    ),
    "MaxPool": Addresses(
        "a branch within a page",
        "writes where the largest of a window was",
        "the index is held to the image",
        "2 × 2: compared with the largest; others: shifted images, the larger of two at a time",
    ),
    "Min": Addresses("a branch at NaN", "a branch within a page", "-", "Max of the opposites"),
    "OneHot": Addresses(
        "writes where its index says",
        "none",
        "the kernel leaves out what lies outside",
        "compared with 0, 1, 2, …; other axes than the last are refused",
    ),
    "Pow": Addresses(
        "libm's table", "libm's table", "-", "a root or products for 0.5, 1, 2, 3; else refused"
    ),
    "Sin": Addresses("a branch by size, a table", "the same", "-", "refused"),
    "Where": Addresses(
        "reads the chosen value only",
        "reads the chosen value only",
        "-",
        "both, times the condition and its opposite, held to float32; bytes, truth values are refused",
    ),
}
"""By operator. Those that are not listed read and write the same places whatever their values are."""

BESIDE_GRAPHS: Mapping[str, tuple[str, str, str]] = {
    "labels in losses and metrics": ("none: they are compared with 0, 1, 2, …", "-", "the same"),
    "accuracy, top 5, F1": ("none: masks and sums", "-", "the same"),
    "AUC": ("sorts by score", "-", "every pair of rows is compared"),
    "validation loss": ("none: exponents and logarithms are series", "-", "the same"),
    "clipping, divergence, moving average": ("none: factors and masks", "-", "the same"),
    "early stop": ("ends learning by the validation loss", "-", "refused"),
    "rows held out for validation": ("sorts by target", "-", "at random, by the seed"),
    "shuffles, batches, dropout, augmentation": ("none: the seed decides", "-", "the same"),
}
"""What values decide beside the graph: by part, then for clamped and for strict."""


def check_addresses(
    nodes: Iterable[NodeProto], known: Mapping[str, TensorProto], values: tuple[Values, ...]
) -> None:
    """Refuse what has no form whose addresses do not depend on data.

    Args:
        nodes: the admitted ones, in order.
        known: constants, and what Constant nodes hold, by name.
        values: every value for several batches.

    Raises:
        GraphRefused: addresses-depend-on-data; the detail names the operator.
    """
    public = set(known)
    for node in nodes:
        if node.op_type == "Shape" or public.issuperset(filter(None, node.input)):
            public.update(node.output)
            continue
        seen = _Seen(node, known, public, values)
        if node.op_type in _WITHOUT_FORM or (node.op_type in _FORMS and not _FORMS[node.op_type](seen)):
            raise refused(GraphCode.ADDRESSES_DEPEND_ON_DATA, node.op_type)


class _Seen(NamedTuple):
    node: NodeProto
    known: Mapping[str, TensorProto]
    public: set[str]
    values: tuple[Values, ...]

    def axis(self, usual: int) -> int:
        return next((a.i for a in self.node.attribute if a.name == "axis"), usual)

    def type(self, name: str) -> int:
        return self.values[0][name].data_type

    def rank(self, name: str) -> int:
        return len(self.values[0][name].dims)

    def has_one_size(self, name: str) -> bool:
        return len({of_batch[name].dims for of_batch in self.values}) == 1


def _gather(seen: _Seen) -> bool:
    table, index = seen.node.input
    by_rows = seen.axis(0) in (0, -seen.rank(table)) and seen.has_one_size(table)
    return index in seen.public or (by_rows and seen.type(table) in _MULTIPLIED)


def _one_hot(seen: _Seen) -> bool:
    index, depth, values = seen.node.input
    return depth in seen.known and values in seen.known and seen.axis(-1) in (-1, seen.rank(index))


def _power(seen: _Seen) -> bool:
    exponent = seen.known.get(seen.node.input[1])
    numbers = [] if exponent is None else numpy_helper.to_array(exponent).reshape(-1).tolist()
    return len(numbers) == 1 and numbers[0] in POWERS and seen.type(seen.node.input[0]) == TensorProto.FLOAT


def _where(seen: _Seen) -> bool:
    return seen.type(seen.node.output[0]) in _MULTIPLIED


_MULTIPLIED = frozenset({TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64})
_WITHOUT_FORM = frozenset({"Cos", "Log", "Sin"})
_FORMS: Mapping[str, Callable[[_Seen], bool]] = {
    "Gather": _gather,
    "OneHot": _one_hot,
    "Pow": _power,
    "Where": _where,
}
