"""First values of parameters: the runtime draws them with the job's seed, in ONNX random operators."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from .onnx import Data, int64s, node, tensor
from .protobuf import blob, integer, integers, single, text


class Initial(ABC):
    """How one parameter begins."""

    @abstractmethod
    def nodes(self, output: str, shape: Sequence[int], fan_in: int, fan_out: int) -> list[bytes]:
        """ONNX nodes that make `output`, float32 of this shape; none where the value comes from elsewhere."""

    def properties(self) -> dict[str, str]:
        """What the parameter's TensorProto says of it."""
        return {}


@dataclass(frozen=True)
class Normal(Initial):
    """Normal with mean 0."""

    deviation: float

    def __post_init__(self) -> None:
        if self.deviation <= 0:
            raise ValueError("a deviation is above 0; ZEROS is all zeros")

    def nodes(self, output: str, shape: Sequence[int], fan_in: int, fan_out: int) -> list[bytes]:
        """See `Initial`."""
        return [node("RandomNormal", [], [output], shape=list(shape), mean=0.0, scale=float(self.deviation))]


@dataclass(frozen=True)
class Uniform(Initial):
    """Uniform in -limit … limit."""

    limit: float

    def __post_init__(self) -> None:
        if self.limit <= 0:
            raise ValueError("a limit is above 0; ZEROS is all zeros")

    def nodes(self, output: str, shape: Sequence[int], fan_in: int, fan_out: int) -> list[bytes]:
        """See `Initial`."""
        limit = float(self.limit)
        return [node("RandomUniform", [], [output], shape=list(shape), low=-limit, high=limit)]


@dataclass(frozen=True)
class He(Initial):
    """Normal with variance 2 / fan-in, for what a ReLU follows (arXiv:1502.01852)."""

    def nodes(self, output: str, shape: Sequence[int], fan_in: int, fan_out: int) -> list[bytes]:
        """See `Initial`."""
        return Normal(math.sqrt(2 / fan_in)).nodes(output, shape, fan_in, fan_out)


@dataclass(frozen=True)
class Glorot(Initial):
    """Uniform with variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010)."""

    def nodes(self, output: str, shape: Sequence[int], fan_in: int, fan_out: int) -> list[bytes]:
        """See `Initial`."""
        return Uniform(math.sqrt(6 / (fan_in + fan_out))).nodes(output, shape, fan_in, fan_out)


@dataclass(frozen=True)
class Constant(Initial):
    """One number everywhere."""

    number: float = 0.0

    def nodes(self, output: str, shape: Sequence[int], fan_in: int, fan_out: int) -> list[bytes]:
        """See `Initial`."""
        return [
            _constant(f"{output}.shape", int64s(shape)),
            _filled(f"{output}.shape", output, self.number),
        ]


@dataclass(frozen=True)
class Asset(Initial):
    """A pretrained tensor that the builder carries: `file/tensor` (see `chiron builder build`, assets)."""

    name: str

    def nodes(self, output: str, shape: Sequence[int], fan_in: int, fan_out: int) -> list[bytes]:
        """See `Initial`."""
        return []

    def properties(self) -> dict[str, str]:
        """See `Initial`."""
        return {"chiron.asset": self.name}


ZEROS = Constant(0.0)
ONES = Constant(1.0)


def _constant(output: str, data: Data) -> bytes:
    value = text(1, "value") + blob(5, tensor("", data)) + integer(20, 4)
    return text(2, output) + text(4, "Constant") + blob(5, value)


def _filled(shape: str, output: str, number: float) -> bytes:
    one = integers(1, [1]) + integer(2, 1) + blob(9, single(0, number)[1:])
    value = text(1, "value") + blob(5, one) + integer(20, 4)
    return text(1, shape) + text(2, output) + text(4, "ConstantOfShape") + blob(5, value)


HE = He()
GLOROT = Glorot()
