"""What leads to the output: the rest is dropped, and a parameter that does not is refused."""

from collections import Counter
from collections.abc import Sequence

from onnx import NodeProto, TensorProto

from chiron.wasm_sandbox.admission.codes import GraphCode, refused
from chiron.wasm_sandbox.admission.operators import OPERATORS, Part

_RUNNING_STATISTICS = slice(3, 5)
"""Inputs of BatchNormalization: mean and variance."""


def live_nodes(nodes: Sequence[NodeProto], output: str, parameters: Sequence[TensorProto]) -> list[NodeProto]:
    """The nodes that the output is made of, in order.

    Raises:
        GraphRefused: output-mismatch where no node makes the output; parameter-invalid where a parameter
            is not an operand of any, other than for its shape; operator-not-trainable for an operator
            whose gradient needs all of its outputs.
    """
    wanted, operands = {output}, set()
    live: list[NodeProto] = []
    for node in reversed(nodes):
        if wanted.isdisjoint(node.output):
            continue
        if OPERATORS[node.op_type].all_outputs_used and not wanted.issuperset(node.output):
            raise refused(GraphCode.OPERATOR_NOT_TRAINABLE, f"an output of {node.op_type} is not used")
        live.append(node)
        wanted.update(node.input)
        if OPERATORS[node.op_type].part is not Part.SHAPE:
            operands.update(node.input)
    if not live:
        raise refused(GraphCode.OUTPUT_MISMATCH, "no node makes it")
    for tensor in parameters:
        if tensor.name not in operands:
            raise refused(GraphCode.PARAMETER_INVALID, f"{tensor.name} does not lead to the output")
    return live[::-1]


def buffers(nodes: Sequence[NodeProto], parameters: Sequence[TensorProto]) -> frozenset[str]:
    """Parameters that are not trained: running statistics. They are that in one place, and nothing else.

    Raises:
        GraphRefused: parameter-invalid.
    """
    names = {tensor.name for tensor in parameters}
    statistics = [
        name
        for node in nodes
        if node.op_type == "BatchNormalization"
        for name in node.input[_RUNNING_STATISTICS]
    ]
    uses = Counter(name for node in nodes for name in node.input)
    for name in statistics:
        if name not in names or uses[name] != 1:
            raise refused(GraphCode.PARAMETER_INVALID, f"{name} is not a running statistic only")
    if len(statistics) == len(names):
        raise refused(GraphCode.PARAMETERS_MISSING, "all are running statistics")
    return frozenset(statistics)
