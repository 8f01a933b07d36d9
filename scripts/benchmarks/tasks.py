"""What bench_accuracy.py trains: real data, a network, and a recipe that any of the systems can follow."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from chiron.builder_kit.chiron_builder import (
    Graph,
    Plan,
    Request,
    Tensor,
    batch_norm,
    conv,
    dense,
    logits,
    max_pool,
    relu,
    scale,
)

CIFAR_IMAGES = 6000
"""Of the training images, so that all systems and seeds take minutes, not hours."""
CIFAR = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "data" / "cifar10-subset.zip"


class Data(NamedTuple):
    """Inputs and classes, to train on and held out."""

    x: NDArray[Any]
    y: NDArray[np.int64]
    test_x: NDArray[Any]
    test_y: NDArray[np.int64]


class Task(NamedTuple):
    """Data, network and recipe."""

    data: Callable[[], Data]
    network: Callable[[Tensor], Tensor]
    recipe: dict[str, Any]
    exchanges: int

    def plan(self, data: Data, seed: int) -> Plan:
        """Graph and recipe, as a builder answers them."""
        classes = int(data.y.max()) + 1
        graph = Graph(Request("classification", data.x.shape[1:], str(data.x.dtype), (), classes))
        return graph.plan(self.network(graph.input), **self.recipe, seed=seed)


def _split(x: NDArray[Any], y: NDArray[Any], held_out: int) -> Data:
    order = np.random.default_rng(0).permutation(len(x))
    x, y = np.ascontiguousarray(x[order]), y[order].astype(np.int64)
    return Data(x[held_out:], y[held_out:], x[:held_out], y[:held_out])


def _digits() -> Data:
    x, y = load_digits(return_X_y=True)
    return _split(x.reshape(-1, 1, 8, 8).astype(np.uint8), y, 500)


def _breast_cancer() -> Data:
    x, y = load_breast_cancer(return_X_y=True)
    return _split(((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), y, 169)


def _cifar() -> Data:
    images: dict[str, list[NDArray[np.uint8]]] = {"train": [], "test": []}
    classes: dict[str, list[int]] = {"train": [], "test": []}
    with zipfile.ZipFile(CIFAR) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        kinds = sorted({name.split("/")[1] for name in names})
        for name in names:
            part, kind, _ = name.split("/")
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            images[part].append(np.asarray(image).transpose(2, 0, 1))
            classes[part].append(kinds.index(kind))
    order = np.random.default_rng(0).permutation(len(images["train"]))[:CIFAR_IMAGES]
    x, y = (np.asarray(values["train"])[order] for values in (images, classes))
    return Data(np.ascontiguousarray(x), y, np.asarray(images["test"]), np.asarray(classes["test"]))


def _small_convolutional(x: Tensor) -> Tensor:
    x = scale(x, 1 / 16)
    for channels in (16, 32):
        x = relu(batch_norm(conv(x, channels, bias=False)))
    return logits(relu(dense(max_pool(x), 64)))


def _convolutional(x: Tensor) -> Tensor:
    x = scale(x, 1 / 255)
    for channels in (16, 32, 64):
        x = max_pool(relu(batch_norm(conv(x, channels, bias=False))))
    return logits(relu(dense(x, 128)))


def _perceptron(x: Tensor) -> Tensor:
    return logits(relu(dense(relu(dense(x, 32)), 16)))


def _adamw(learning_rate: float) -> dict[str, Any]:
    return {"kind": "adamw", "learning_rate": learning_rate, "weight_decay": 0.05}


TASKS = {
    "digits": Task(
        _digits,
        _small_convolutional,
        {"epochs": 15, "batch_size": 32, "optimizer": _adamw(0.002), "warmup": 0.05},
        31,
    ),
    "breast-cancer": Task(
        _breast_cancer,
        _perceptron,
        {"epochs": 30, "batch_size": 32, "optimizer": _adamw(0.003), "warmup": 0.05},
        31,
    ),
    "cifar10-subset": Task(
        _cifar,
        _convolutional,
        {"epochs": 6, "batch_size": 64, "optimizer": _adamw(0.002), "warmup": 0.05},
        565,
    ),
}
