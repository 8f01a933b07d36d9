"""Passes over pooling."""

import numpy as np
from onnx import NodeProto, TensorProto, helper

from chiron.runtime.training.rewrites.editing import Rewriting

_NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}


def rectified_after_pooling(work: Rewriting) -> None:
    """Relu, MaxPool → MaxPool, Relu: the same values, and a quarter of them to rectify.

    Of the forward graph. Where a window holds no positive value neither order has a gradient.
    """
    users = work.users()
    makers = {node.output[0]: node for node in work.nodes}

    def change(node: NodeProto) -> list[NodeProto] | None:
        relu = makers.get(node.input[0]) if node.op_type == "MaxPool" and len(node.output) == 1 else None
        if relu is None or relu.op_type != "Relu" or users[relu.output[0]] != 1:
            return None
        pooled = work.name()
        swapped = helper.make_node("Relu", [pooled], node.output)
        node.input[0] = relu.input[0]
        node.output[0] = pooled
        return [node, swapped]

    work.replace(change)
    used = work.users()
    work.nodes = [node for node in work.nodes if node.op_type != "Relu" or used[node.output[0]]]


def pooling_without_indices(work: Rewriting) -> None:
    """MaxPool with indices and MaxPoolGrad, of 2 × 2 → the plain MaxPool, and its output against its input.

    The engine's MaxPool is vectorised only without indices. Where inputs tie, they share the gradient in
    equal parts; the engine gives it to the first of them. Both are subgradients, with the same sum.
    """
    pools = {n.output[1]: n for n in work.nodes if n.op_type == "MaxPool" and len(n.output) == 2}
    users = work.users()
    gradients = {n.input[1]: n for n in work.nodes if n.op_type == "MaxPoolGrad"}
    chosen = {
        index: pool
        for index, pool in pools.items()
        if index in gradients and users[index] == 1 and is_halving(pool, work.shapes.get(pool.input[0]))
    }
    if not chosen:
        return
    scales, quarter = work.constant([1, 1, 2, 2], np.float32), work.constant(0.25, np.float32)

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type == "MaxPool" and len(node.output) == 2 and node.output[1] in chosen:
            del node.output[1:]
            return [node]
        if node.op_type != "MaxPoolGrad" or node.input[1] not in chosen:
            return None
        pool = chosen[node.input[1]]
        spread, largest = work.add("Resize", [pool.output[0], "", scales], **_NEAREST)
        compare, equal = work.add("Equal", [pool.input[0], largest])
        cast, mask = work.add("Cast", [equal], to=TensorProto.FLOAT)
        mean, ties = work.add("AveragePool", [mask], kernel_shape=[2, 2], strides=[2, 2])
        scale, quartered = work.add("Mul", [node.input[0], quarter])
        divide, part = work.add("Div", [quartered, ties])
        spread_part, parts = work.add("Resize", [part, "", scales], **_NEAREST)
        product = helper.make_node("Mul", [parts, mask], node.output)
        return [spread, compare, cast, mean, scale, divide, spread_part, product]

    work.replace(change)


def pooling_within_bounds(work: Rewriting) -> None:
    """MaxPoolGrad writes where the forward pass says; hold each of these places to the image.

    A window of NaN or of minus infinity has no largest element: the engine answers the index -1 or another of
    that kind, and its gradient writes there (onnxruntime 27903). Such a gradient is of no use in any case.
    """
    pools = {n.output[1]: n for n in work.nodes if n.op_type == "MaxPool" and len(n.output) == 2}
    if not any(node.op_type == "MaxPoolGrad" for node in work.nodes):
        return
    first, one = work.constant(0, np.int64), work.constant(1, np.int64)

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "MaxPoolGrad":
            return None
        count, elements = work.add("Size", [pools[node.input[1]].input[0]])
        minus, last = work.add("Sub", [elements, one])
        hold, held = work.add("Clip", [node.input[1], first, last])
        node.input[1] = held
        return [count, minus, hold, node]

    work.replace(change)


def is_halving(pool: NodeProto, shape: tuple[int, ...] | None) -> bool:
    """Whether a MaxPool takes each 2 × 2 square of an image of even sides."""
    has = {a.name: helper.get_attribute_value(a) for a in pool.attribute}
    squares = list(has.get("kernel_shape", [])) == [2, 2] == list(has.get("strides", []))
    plain = (
        not any(has.get("pads", []))
        and set(has.get("dilations", [1])) == {1}
        and has.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    )
    even = shape is not None and len(shape) == 4 and all(n > 0 and n % 2 == 0 for n in shape[2:])
    return squares and plain and even
