"""What a builder is asked, what it learns of earlier trials, and what it answers."""

import json
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """Public facts of the job; nothing in it depends on the data's values."""

    task: str
    """`classification` or `regression`."""
    input_shape: tuple[int, ...]
    """One example's."""
    input_type: str = "float32"
    """`uint8` or `float32`."""
    target_shape: tuple[int, ...] = ()
    classes: int = 0
    max_parameters: int = 1_000_000
    trial: int = 0
    trials: int = 1

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What the graph must make of one example."""
        return (self.classes,) if self.task == "classification" else self.target_shape

    @property
    def outputs(self) -> int:
        """Elements of `output_shape`."""
        return math.prod(self.output_shape)


@dataclass(frozen=True)
class Trial:
    """How an earlier trial went."""

    number: int
    outcome: str
    """`trained`, `diverged` or `refused`."""
    validation_loss: float
    validation_score: float
    """Accuracy, or coefficient of determination: larger is better; NaN where there is none."""
    recipe: str

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe that it was trained with."""
        settings: dict[str, Any] = json.loads(self.recipe)
        return settings


@dataclass(frozen=True)
class Plan:
    """The answer: an ONNX graph and a recipe."""

    graph: bytes
    """Serialised ModelProto."""
    recipe: str
    """JSON."""
