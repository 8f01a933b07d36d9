"""What ONNX's checker and inference leave open of operands: a kernel that trusts them leaves its buffers.

`check_lists` works on the numbers of constants and comes before inference, which itself counts by a step.
`check_operands` works on inferred shapes. Seen with onnxruntime 1.19.2: a bias of one element is read out of
bounds by a convolution of many channels, a batch normalisation of rank 1 ends the process, and so does the
gradient of a pool's window that lies outside of its image.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from onnx import NodeProto, TensorProto, helper, numpy_helper

from chiron.wasm_sandbox.admission.operators import LIST_INPUTS
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wasm_sandbox.limits import GraphLimits

Dims = tuple[int, ...]
_WINDOWS: Mapping[str, int] = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 2}
"""Numbers that each attribute of a window has for a spatial dimension."""
_STEPS = 4
"""Which input of Slice its steps are; the three before it are starts, ends and axes."""


def check_lists(
    nodes: Iterable[NodeProto], constants: Mapping[str, TensorProto], limits: GraphLimits
) -> None:
    """Hold axes, sizes of parts and bounds of slices to constants that are no longer than they can be.

    `Slice` has as many of each, one for an axis, and steps no larger than a dimension.

    Args:
        nodes: of a graph that is otherwise held to the operator table.
        constants: all values that are known before the graph runs, by name.
        limits: the largest rank and dimension, and the most outputs of a node.

    Raises:
        GraphRefused: constant-invalid.
    """
    for node in nodes:
        positions = LIST_INPUTS.get(node.op_type, ())
        names = [name for number, name in enumerate(node.input) if name and number in positions]
        if any(name not in constants for name in names):
            raise refused(GraphCode.CONSTANT_INVALID, f"{node.op_type} by numbers that are not constants")
        most = limits.node_outputs if node.op_type == "Split" else limits.rank
        if any(math.prod(constants[name].dims) > most for name in names):
            raise refused(GraphCode.CONSTANT_INVALID, f"{node.op_type} by lists longer than a rank")
        if node.op_type == "Slice":
            _check_slice(node, [constants[name] for name in names], constants, limits)


def _check_slice(
    node: NodeProto, lists: Sequence[TensorProto], constants: Mapping[str, TensorProto], limits: GraphLimits
) -> None:
    if len({tuple(listed.dims) for listed in lists}) > 1 or any(len(listed.dims) != 1 for listed in lists):
        raise refused(GraphCode.CONSTANT_INVALID, "Slice by lists of several lengths")
    given = node.input[_STEPS] if len(node.input) > _STEPS else ""
    steps = numpy_helper.to_array(constants[given]).tolist() if given else []
    if any(not 1 <= abs(step) <= limits.dimension for step in steps):
        raise refused(GraphCode.CONSTANT_INVALID, f"Slice in steps of {steps}")


def check_operands(nodes: Iterable[NodeProto], dims: Mapping[str, Dims]) -> None:
    """Hold the operands of each node to one another.

    Raises:
        GraphRefused: operands-mismatch.
    """
    for node in nodes:
        shapes = [dims[name] if name else () for name in node.input]
        fits = _FITS.get(node.op_type)
        if fits is not None and not fits(node, shapes, dims[node.output[0]]):
            listed = ", ".join(str(list(shape)) for shape in shapes[:5])
            raise refused(GraphCode.OPERANDS_MISMATCH, f"{node.op_type} of {listed}")


def _attribute(node: NodeProto, name: str) -> int | None:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), None)


def _window_fits(node: NodeProto, spatial: int) -> bool:
    """Whether each list of the window has its numbers for every spatial dimension."""
    listed = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name in _WINDOWS}
    return spatial >= 1 and all(len(numbers) == _WINDOWS[name] * spatial for name, numbers in listed.items())


def _convolution_fits(node: NodeProto, shapes: Sequence[Dims], _: Dims) -> bool:
    """x [N, C, …], weight [M, C / group, kernel …], bias [M]; M is a multiple of the groups."""
    x, weight = shapes[:2]
    group = _attribute(node, "group") or 1
    kernels = [tuple(a.ints) for a in node.attribute if a.name == "kernel_shape"]
    return (
        len(x) == len(weight) >= 3
        and x[1] == group * weight[1]
        and weight[0] % group == 0
        and kernels in ([], [weight[2:]])
        and _window_fits(node, len(x) - 2)
        and (len(shapes) < 3 or shapes[2] == (weight[0],))
    )


def _pool_fits(node: NodeProto, shapes: Sequence[Dims], output: Dims) -> bool:
    """x [N, C, …], and no window that lies in the padding alone."""
    x = shapes[0]
    lists = {a.name: list(a.ints) for a in node.attribute if a.name in _WINDOWS}
    kernel, pads = lists.get("kernel_shape", []), lists.get("pads", [])
    inside = all(pad < size for pad, size in zip(pads, kernel * 2, strict=False))
    return len(x) >= 3 and _window_fits(node, len(x) - 2) and inside and math.prod(output) > 0


def _batch_norm_fits(_: NodeProto, shapes: Sequence[Dims], __: Dims) -> bool:
    """x [N, C, …] and four times [C]."""
    x = shapes[0]
    return len(x) >= 2 and all(shape == (x[1],) for shape in shapes[1:])


def _layer_norm_fits(node: NodeProto, shapes: Sequence[Dims], _: Dims) -> bool:
    """Scale and bias have the shape of what is normalised, and the batch is not among it."""
    x = shapes[0]
    given = _attribute(node, "axis")
    axis = -1 if given is None else given
    axis += len(x) if axis < 0 else 0
    return 1 <= axis < len(x) and all(shape == x[axis:] for shape in shapes[1:])


_FITS = {
    "AveragePool": _pool_fits,
    "BatchNormalization": _batch_norm_fits,
    "Conv": _convolution_fits,
    "LayerNormalization": _layer_norm_fits,
    "MaxPool": _pool_fits,
}
