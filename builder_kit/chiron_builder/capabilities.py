"""What a data owner can grant: each function needs its capability listed in `builder.toml`.

| function            | capability           |
|---------------------|----------------------|
| `log`               | `log`                |
| `dataset`           | `dataset-shape`      |
| `statistics`        | `dataset-statistics` |
| `sample`            | `dataset-sample`     |
| `random_u64`, `random_bytes` | `random`    |
| `trial_scores`      | `trial-scores`       |

A component asks for exactly what `builder.toml` lists, whether it uses it or not.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .request import Trial


def _interface(name: str) -> Any:
    try:
        return import_module(f"wit_world.imports.{name}")
    except ImportError:
        return None


# Looked up while the component is made: afterwards there is no file system to import from.
_INTERFACES = {
    name: _interface(name)
    for name in ("log", "dataset_shape", "dataset_statistics", "dataset_sample", "random", "trial_scores")
}


class CapabilityMissing(Exception):
    """The builder uses a capability that its `builder.toml` does not list."""


def _linked(name: str) -> Any:
    interface = _INTERFACES[name]
    if interface is None:
        raise CapabilityMissing(f"list {name.replace('_', '-')!r} under capabilities in builder.toml")
    return interface


@dataclass(frozen=True)
class Dataset:
    """Capability `dataset-shape`."""

    examples: int
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    classes: int


@dataclass(frozen=True)
class Columns:
    """One number for each column."""

    mean: Sequence[float]
    standard_deviation: Sequence[float]
    minimum: Sequence[float]
    maximum: Sequence[float]


@dataclass(frozen=True)
class Statistics:
    """Capability `dataset-statistics`: over all examples."""

    granularity: str
    """What a column of `inputs` is: `element`, `first-dimension` or `whole`."""
    inputs: Columns
    quantile_levels: Sequence[float]
    input_quantiles: Sequence[Sequence[float]]
    """One list for each level, with one number for each column."""
    targets: Columns
    """Columns of a regression's flattened target; empty for a classification."""
    class_counts: Sequence[int]
    """Empty for a regression."""


@dataclass(frozen=True)
class Example:
    """One example, as little-endian bytes in row-major order."""

    input: bytes
    """Elements of the request's input type."""
    target: bytes
    """One int64 class, or float32 values."""

    def floats(self) -> tuple[float, ...]:
        """The input of a float32 job."""
        return struct.unpack(f"<{len(self.input) // 4}f", self.input)


def log(message: str, severity: str = "info") -> None:
    """A line for the author: shown by `chiron builder run`, dropped in an enclave."""
    interface = _linked("log")
    interface.write(interface.Level[severity.upper()], message)


def dataset() -> Dataset:
    """How many examples there are, and of what shape."""
    shape = _linked("dataset_shape").describe()
    return Dataset(shape.examples, tuple(shape.input_shape), tuple(shape.target_shape), shape.classes)


def statistics() -> Statistics:
    """Statistics of the data, computed before the builder started."""
    interface = _linked("dataset_statistics")
    return Statistics(
        granularity=interface.input_granularity().name.lower().replace("_", "-"),
        inputs=_columns(interface.inputs()),
        quantile_levels=interface.quantile_levels(),
        input_quantiles=interface.input_quantiles(),
        targets=_columns(interface.targets()),
        class_counts=interface.class_counts(),
    )


def _columns(columns: Any) -> Columns:
    return Columns(columns.mean, columns.standard_deviation, columns.minimum, columns.maximum)


def sample() -> list[Example]:
    """As many examples as the owner granted."""
    interface = _linked("dataset_sample")
    examples = []
    for index in range(interface.count()):
        example = interface.get(index)
        if example is not None:
            examples.append(Example(bytes(example.input), bytes(example.target)))
    return examples


def random_u64() -> int:
    """A number of the stream that depends on the job's seed only."""
    number: int = _linked("random").next_u64()
    return number


def random_bytes(count: int) -> bytes:
    """The next bytes of the random stream, at most 65536."""
    return bytes(_linked("random").bytes(count))


def trial_scores() -> list[Trial]:
    """How the trials before this one went, for `revise`."""
    return [
        Trial(
            number=trial.number,
            outcome=trial.outcome.name.lower(),
            validation_loss=trial.validation_loss,
            validation_score=trial.validation_score,
            recipe=trial.recipe,
        )
        for trial in _linked("trial_scores").history()
    ]
