"""An admitted graph in PyTorch: runs with torch and NumPy only, in an environment of its own."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

Values = dict[str, Any]


class TorchGraph:
    """The forward graph; parameters are leaves with gradients."""

    def __init__(self, directory: Path) -> None:
        described = json.loads((directory / "torch.json").read_text())
        arrays = np.load(directory / "torch.npz")
        self.recipe: Mapping[str, Any] = described["recipe"]
        self._nodes = described["nodes"]
        self.values: Values = {
            name[2:]: torch.from_numpy(arrays[name]) for name in arrays.files if name[:2] in ("p:", "c:")
        }
        # The buffers of a flat vector are views; an optimizer wants leaves.
        self.parameters = {name: self.values[name].clone().requires_grad_() for name in described["trained"]}
        self.values |= self.parameters
        self.x, self.y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])

    def __call__(self, x: Any, *, training: bool) -> Any:
        """Outputs of a batch."""
        known = {**self.values, "input": x}
        for node in self._nodes:
            inputs = [known[name] if name else None for name in node["inputs"]]
            known[node["outputs"][0]] = _OPERATORS[node["op"]](inputs, node["attributes"], training)
        return known["output"]


def _conv(i: list[Any], a: Mapping[str, Any], _training: bool) -> Any:
    return functional.conv2d(
        i[0], i[1], i[2] if len(i) > 2 else None, a["strides"], a["pads"][:2], groups=a.get("group", 1)
    )


def _gemm(i: list[Any], a: Mapping[str, Any], _training: bool) -> Any:
    left = i[0].T if a.get("transA") else i[0]
    right = i[1].T if a.get("transB") else i[1]
    return torch.addmm(i[2], left, right) if len(i) > 2 else left @ right


def _batch_norm(i: list[Any], a: Mapping[str, Any], training: bool) -> Any:
    x, scale, bias, mean, variance = i
    return functional.batch_norm(
        x, mean, variance, scale, bias, training, 1 - a.get("momentum", 0.9), a.get("epsilon", 1e-5)
    )


def _layer_norm(i: list[Any], a: Mapping[str, Any], _training: bool) -> Any:
    return functional.layer_norm(i[0], i[1].shape, i[1], i[2], a.get("epsilon", 1e-5))


def _gather(i: list[Any], _a: Mapping[str, Any], _training: bool) -> Any:
    return functional.embedding(i[1], i[0])


def _reshape(i: list[Any], _a: Mapping[str, Any], _training: bool) -> Any:
    sizes = [i[0].shape[n] if size == 0 else size for n, size in enumerate(i[1].tolist())]
    return i[0].reshape(sizes)


_TYPES = {1: torch.float32, 7: torch.int64}
_OPERATORS: dict[str, Callable[[list[Any], Mapping[str, Any], bool], Any]] = {
    "Add": lambda i, _a, _t: i[0] + i[1],
    "BatchNormalization": _batch_norm,
    "Cast": lambda i, a, _t: i[0].to(_TYPES[a["to"]]),
    "Conv": _conv,
    "Flatten": lambda i, _a, _t: i[0].flatten(1),
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda i, _a, _t: i[0].mean((2, 3), keepdim=True),
    "Identity": lambda i, _a, _t: i[0],
    "LayerNormalization": _layer_norm,
    "MatMul": lambda i, _a, _t: i[0] @ i[1],
    "MaxPool": lambda i, a, _t: functional.max_pool2d(i[0], a["kernel_shape"], a["strides"]),
    "Mul": lambda i, _a, _t: i[0] * i[1],
    "ReduceMean": lambda i, a, _t: i[0].mean(a["axes"], keepdim=bool(a.get("keepdims", 1))),
    "Relu": lambda i, _a, _t: functional.relu(i[0]),
    "Reshape": _reshape,
    "Softmax": lambda i, a, _t: i[0].softmax(a.get("axis", -1)),
    "Sub": lambda i, _a, _t: i[0] - i[1],
    "Transpose": lambda i, a, _t: i[0].permute(a["perm"]),
}


def optimizer(graph: TorchGraph) -> Any:
    """The recipe's: decayed are parameters of two dimensions or more, as in ours."""
    chosen = graph.recipe["optimizer"]
    parameters = list(graph.parameters.values())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": chosen["weight_decay"]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if chosen["kind"] == "sgd":
        return torch.optim.SGD(
            groups, chosen["learning_rate"], momentum=chosen["momentum"], nesterov=chosen["nesterov"]
        )
    betas = (chosen["beta1"], chosen["beta2"])
    return torch.optim.AdamW(groups, chosen["learning_rate"], betas=betas, eps=chosen["epsilon"])
