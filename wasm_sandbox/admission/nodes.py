"""Nodes: one name a value, every value made before it is used, and only what the operator table lists.

What does not lead to the output is dropped; a parameter that does not is refused.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto, numpy_helper

from chiron.wasm_sandbox.admission.operators import (
    CONTROL_FLOW,
    OPERATORS,
    Attribute,
    Operator,
    Part,
)
from chiron.wasm_sandbox.admission.tensors import check_constants, item_bytes
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wasm_sandbox.limits import GraphLimits

_RUNNING_STATISTICS = slice(3, 5)
"""Inputs of BatchNormalization: mean and variance."""


def check_nodes(
    nodes: Sequence[NodeProto],
    known: Iterable[str],
    operators: Mapping[str, Operator],
    limits: GraphLimits,
    *,
    foreign: GraphCode = GraphCode.OPERATOR_NOT_ALLOWED,
) -> None:
    """Hold every node to the table and the graph to static single assignment.

    Args:
        nodes: in execution order.
        known: names that exist before the first node (inputs and initializers).
        operators: what may be used.
        limits: how much of it.
        foreign: the code of an operator that is not in the table.

    Raises:
        GraphRefused: too-many-nodes, too-many-tensors, name-invalid, graph-not-sorted, domain-not-allowed,
            control-flow-not-allowed, attribute-not-allowed, constant-…, or `foreign`.
    """
    if len(nodes) > limits.nodes:
        raise refused(GraphCode.TOO_MANY_NODES, str(len(nodes)))
    values = _distinct(known)
    for node in nodes:
        _check_operator(node, operators, limits, foreign)
        for name in node.input:
            if name and name not in values:
                raise refused(GraphCode.GRAPH_NOT_SORTED, f"{node.op_type} uses {name}")
        for name in filter(None, node.output):
            if name in values:
                raise refused(GraphCode.NAME_INVALID, f"{name} is given twice")
            values.add(name)
    inline = [a.t for node in nodes for a in node.attribute if a.type == AttributeProto.TENSOR]
    check_constants(inline, limits)


def _distinct(names: Iterable[str]) -> set[str]:
    values: set[str] = set()
    for name in names:
        if not name or name in values:
            raise refused(GraphCode.NAME_INVALID, f"{name!r} is empty or given twice")
        values.add(name)
    return values


def _check_operator(
    node: NodeProto, operators: Mapping[str, Operator], limits: GraphLimits, foreign: GraphCode
) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise refused(GraphCode.DOMAIN_NOT_ALLOWED, node.domain)
    if node.op_type in CONTROL_FLOW:
        raise refused(GraphCode.CONTROL_FLOW_NOT_ALLOWED, node.op_type)
    operator = operators.get(node.op_type)
    if operator is None:
        raise refused(foreign, node.op_type)
    if len(node.input) > limits.node_inputs or len(node.output) > limits.node_outputs:
        raise refused(GraphCode.TOO_MANY_TENSORS, node.op_type)
    if not any(node.output):
        raise refused(GraphCode.GRAPH_INVALID, f"{node.op_type} makes nothing")
    if not _operands_fit(node, operator):
        raise refused(GraphCode.ATTRIBUTE_NOT_ALLOWED, f"operands of {node.op_type}")
    seen: set[str] = set()
    for attribute in node.attribute:
        allowed = operator.attributes.get(attribute.name)
        if allowed is None or attribute.name in seen or not _fits(attribute, allowed):
            raise refused(GraphCode.ATTRIBUTE_NOT_ALLOWED, f"{node.op_type}.{attribute.name}")
        seen.add(attribute.name)


def _operands_fit(node: NodeProto, operator: Operator) -> bool:
    count = len(node.input)
    if (
        not operator.least_inputs
        <= count
        <= (count if operator.most_inputs is None else operator.most_inputs)
    ):
        return False
    if len(node.output) > operator.most_outputs or "" in node.output:
        return False
    parts = [attribute.i for attribute in node.attribute if attribute.name == "num_outputs"]
    # ONNX's inference reads past the end where Split has other outputs than it says.
    return (operator.gaps or "" not in node.input) and parts in ([], [len(node.output)])


def _fits(attribute: AttributeProto, allowed: Attribute) -> bool:
    if attribute.type != allowed.kind:
        return False
    if attribute.type == AttributeProto.STRING:
        return attribute.s in allowed.words
    if attribute.type == AttributeProto.TENSOR:
        return True  # held to its bounds by check_constants
    numbers: Sequence[float] = {
        AttributeProto.INT: [attribute.i],
        AttributeProto.INTS: attribute.ints,
        AttributeProto.FLOAT: [attribute.f],
        AttributeProto.FLOATS: attribute.floats,
    }[attribute.type]
    in_range = (math.isfinite(number) and allowed.low <= number <= allowed.high for number in numbers)
    return len(numbers) <= allowed.most and all(in_range)


def trained_values(nodes: Iterable[NodeProto], parameters: Iterable[str]) -> set[str]:
    """Names of all values that depend on a parameter, the parameters among them.

    Raises:
        GraphRefused: operator-not-trainable, for a dependent operator without gradient.
    """
    trained = set(parameters)
    for node in nodes:
        part = OPERATORS[node.op_type].part
        if part is Part.SHAPE or trained.isdisjoint(node.input):
            continue
        if part is not Part.TRAINED:
            raise refused(GraphCode.OPERATOR_NOT_TRAINABLE, node.op_type)
        trained.update(filter(None, node.output))
    return trained


def known_values(nodes: Iterable[NodeProto], constants: Iterable[TensorProto]) -> Mapping[str, TensorProto]:
    """Constants by name: initializers with data, and what Constant nodes make."""
    known = {tensor.name: tensor for tensor in constants}
    for node in nodes:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            _learn(known, node.output[0], attribute)
    return known


def _learn(known: dict[str, TensorProto], name: str, attribute: AttributeProto) -> None:
    if attribute.name == "value":
        item_bytes(attribute.t.data_type)
        known[name] = attribute.t
    elif attribute.name in ("value_int", "value_ints"):
        numbers = [attribute.i] if attribute.name == "value_int" else list(attribute.ints)
        known[name] = numpy_helper.from_array(np.asarray(numbers, np.int64))


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
