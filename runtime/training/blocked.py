"""How wide the blocks of channels of the engine's fast convolutions are on this processor."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime import InferenceSession, SessionOptions

_DOMAIN = "com.microsoft.nchwc"
_CANDIDATES = (8, 16)
_CHANNELS = 16
_ERRORS_ONLY = 3


@cache
def block_size() -> int:
    """8, 16, or 0 where the engine has no blocked convolution.

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
        helper.make_node("ReorderInput", ["x"], ["a"], domain=_DOMAIN),
        helper.make_node("Conv", ["a", "w"], ["b"], domain=_DOMAIN, kernel_shape=[3, 3], group=1),
        helper.make_node("ReorderOutput", ["b"], ["y"], domain=_DOMAIN, channels=_CHANNELS),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in (("x", x), ("w", weights))
    ]
    graph = helper.make_graph(nodes, "blocked", inputs, [helper.make_empty_tensor_value_info("y")])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = np.ascontiguousarray(blocked).reshape(weights.shape)
    output: NDArray[np.float32] = session.run(["y"], {"x": x, "w": given})[0]
    return output.reshape(1, _CHANNELS)
