"""Passes that move convolutions to the engine's kernels for channels in blocks.

The engine itself uses these kernels, which need no im2col, for constant weights only. Here the weights change
with every step, so they are brought into blocks in the graph.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from onnxruntime import InferenceSession, SessionOptions

from chiron.runtime.training.errors import ENGINE_SILENT
from chiron.runtime.training.rewrites.editing import Rewriting

_BLOCKED = "com.microsoft.nchwc"
_CANDIDATES = (8, 16)
_CHANNELS = 16


def input_gradient_as_convolution(work: Rewriting) -> None:
    """ConvGrad's input gradient → a convolution of dY with the weights transposed and flipped.

    So it runs on the blocked forward kernel instead of a matrix product and a scatter. Of stride 1 only.
    """
    size = block_size()

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "ConvGrad" or not node.output[0]:
            return None
        form = _Convolution.of(node, work.shapes.get(node.input[2]))
        if form is None or not form.blocks(size) or form.strides != (1, 1):
            return None
        kernel = form.kernel
        pads = [k - 1 - p for k, p in zip([*kernel, *kernel], form.pads, strict=True)]
        if min(pads) < 0:
            return None
        filters, nodes = _gradient_filters(work, node.input[2], form, size)
        nodes += _blocked(work, node.input[0], filters, node.output[0], form.inputs, kernel, pads, (1, 1))
        if any(node.output[1:]):
            node.output[0] = ""
            nodes.append(node)
        return nodes

    if size:
        work.replace(change)


def blocked_convolutions(work: Rewriting) -> None:
    """Conv → reorder, convolution on channels in blocks, reorder back."""
    size = block_size()

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Conv" or node.domain:
            return None
        form = _Convolution.of(node, work.shapes.get(node.input[1]))
        if form is None or not form.blocks(size):
            return None
        filters, nodes = _filters(work, node.input[1], form, size)
        bias = list(node.input[2:3])
        made = _blocked(
            work,
            node.input[0],
            filters,
            node.output[0],
            form.outputs,
            form.kernel,
            form.pads,
            form.strides,
            bias,
        )
        return [*nodes, *made]

    if size:
        work.replace(change)


def rectified_convolutions(work: Rewriting) -> None:
    """Blocked convolution, reorder back, Relu → the convolution rectifies as it writes."""
    users = work.users()
    makers = {node.output[0]: node for node in work.nodes}

    def change(node: NodeProto) -> list[NodeProto] | None:
        if node.op_type != "Relu" or users[node.input[0]] != 1:
            return None
        back = makers.get(node.input[0])
        if back is None or back.op_type != "ReorderOutput":
            return None
        convolution = makers[back.input[0]]
        if convolution.op_type != "Conv" or users[back.input[0]] != 1:
            return None
        convolution.attribute.append(helper.make_attribute("activation", "Relu"))
        back.output[0] = node.output[0]
        makers[node.output[0]] = back
        return []

    work.replace(change)


@dataclass(frozen=True)
class _Convolution:
    """A plain two-dimensional convolution: no groups, no dilation, explicit padding."""

    outputs: int
    inputs: int
    kernel: tuple[int, int]
    pads: tuple[int, ...]
    strides: tuple[int, int]

    @classmethod
    def of(cls, node: NodeProto, weights: tuple[int, ...] | None) -> "_Convolution | None":
        """This node as a convolution, or None."""
        if weights is None or len(weights) != 4:
            return None
        has = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = (
            has.get("group", 1) == 1
            and set(has.get("dilations", [1])) == {1}
            and has.get("auto_pad", b"NOTSET") == b"NOTSET"
        )
        if not plain:
            return None
        pads, strides = tuple(has.get("pads", (0,) * 4)), tuple(has.get("strides", (1, 1)))
        return cls(weights[0], weights[1], (weights[2], weights[3]), pads, (strides[0], strides[1]))

    def blocks(self, size: int) -> bool:
        """Whether both sides' channels fill whole blocks."""
        return self.outputs % size == 0 and self.inputs % size == 0


def _filters(work: Rewriting, weights: str, form: _Convolution, size: int) -> tuple[str, list[NodeProto]]:
    """[outputs, inputs, kernel] → blocks [outputs/s, inputs/s, kernel, s inputs, s outputs].

    In three steps whose transpositions the engine has fast kernels for; in one it takes six times as long.
    """
    o, i, k = form.outputs // size, form.inputs // size, form.kernel[0] * form.kernel[1]
    value = weights
    nodes: list[NodeProto] = []
    for shape, perm in (
        ([o, size, i, size * k], [0, 2, 1, 3]),
        ([o * i, size, size * k], [0, 2, 1]),
        ([o * i, size, k, size], [0, 2, 1, 3]),
    ):
        value = _transposed(work, nodes, value, shape, perm)
    return _reshaped(work, nodes, value, [form.outputs, form.inputs, *form.kernel]), nodes


def _gradient_filters(
    work: Rewriting, weights: str, form: _Convolution, size: int
) -> tuple[str, list[NodeProto]]:
    """The same of the opposite direction: inputs and outputs swapped, the kernel turned by half a turn."""
    o, i, k = form.outputs // size, form.inputs // size, form.kernel[0] * form.kernel[1]
    value = weights
    nodes: list[NodeProto] = []
    for shape, perm in (
        ([o, size, i, size * k], [2, 0, 1, 3]),
        ([i * o * size, size, k], [0, 2, 1]),
        ([i * o, size, k, size], [0, 2, 1, 3]),
    ):
        value = _transposed(work, nodes, value, shape, perm)
    if k > 1:
        one, last, first = (work.constant([n], np.int64) for n in (1, -1, -(2**31)))
        node, value = work.add("Slice", [value, last, first, one, last])
        nodes.append(node)
    return _reshaped(work, nodes, value, [form.inputs, form.outputs, *form.kernel]), nodes


def _transposed(
    work: Rewriting, nodes: list[NodeProto], value: str, shape: list[int], perm: list[int]
) -> str:
    node, output = work.add("Transpose", [_reshaped(work, nodes, value, shape)], perm=perm)
    nodes.append(node)
    return output


def _reshaped(work: Rewriting, nodes: list[NodeProto], value: str, shape: list[int]) -> str:
    node, output = work.add("Reshape", [value, work.constant(shape, np.int64)])
    nodes.append(node)
    return output


def _blocked(
    work: Rewriting,
    source: str,
    filters: str,
    output: str,
    channels: int,
    kernel: Iterable[int],
    pads: Iterable[int],
    strides: Iterable[int],
    bias: Iterable[str] = (),
) -> list[NodeProto]:
    """Reorder, convolve, reorder back."""
    there, value = work.add("ReorderInput", [source], domain=_BLOCKED)
    convolve, value = work.add(
        "Conv",
        [value, filters, *bias],
        domain=_BLOCKED,
        kernel_shape=list(kernel),
        pads=list(pads),
        strides=list(strides),
        group=1,
    )
    back = helper.make_node("ReorderOutput", [value], [output], domain=_BLOCKED, channels=channels)
    return [there, convolve, back]


@cache
def block_size() -> int:
    """The width of the engine's blocks of channels on this processor: 8 or 16; 0 if it has none.

    It does not say which it uses, so each candidate convolves and is compared with the plain result.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, _CHANNELS, 3, 3)).astype(np.float32)
    weights = rng.normal(size=(_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
    centre = np.einsum("ncij,ocij->no", x, weights)
    for size in _CANDIDATES:
        try:
            found = _centre(x, weights, size)
        except Exception:  # noqa: S112 - whatever the engine raises, this size is not its own
            continue
        if np.allclose(found, centre, rtol=1e-4, atol=1e-4):
            return size
    return 0


def _centre(x: NDArray[np.float32], weights: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The one output pixel [1, channels] of a convolution without padding, blocked by `size`."""
    groups = _CHANNELS // size
    blocked = weights.reshape(groups, size, groups, size, 3, 3).transpose(0, 2, 4, 5, 3, 1)
    nodes = [
        helper.make_node("ReorderInput", ["x"], ["a"], domain=_BLOCKED),
        helper.make_node("Conv", ["a", "w"], ["b"], domain=_BLOCKED, kernel_shape=[3, 3], group=1),
        helper.make_node("ReorderOutput", ["b"], ["y"], domain=_BLOCKED, channels=_CHANNELS),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in (("x", x), ("w", weights))
    ]
    graph = helper.make_graph(nodes, "blocked", inputs, [helper.make_empty_tensor_value_info("y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_BLOCKED, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ENGINE_SILENT
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = np.ascontiguousarray(blocked).reshape(weights.shape)
    output: NDArray[np.float32] = session.run(["y"], {"x": x, "w": given})[0]
    return output.reshape(1, _CHANNELS)
