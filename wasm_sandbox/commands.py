"""The sandbox's commands to its worker process, as JSON, with capability data as plain bytes.

The worker imports this module and no pydantic or NumPy: half of a cached build would be their import.
Both ends are ours and of one version, and the worker reads before any builder code runs; so this side
is not hostile. The other way, worker to sandbox, is: see `chiron.wasm_sandbox.reports`.
"""

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from chiron.wasm_sandbox.codec import Buffer

if TYPE_CHECKING:
    from chiron.wasm_sandbox.capability_data import Columns, DatasetSample, DatasetStatistics

Lists = dict[str, list[float]]
"""The columns of `wit/capabilities.wit`, by field name."""
COLUMN_FIELDS = ("mean", "standard-deviation", "minimum", "maximum")


@dataclass(frozen=True)
class CompileCommand:
    """The first part of a `COMPILE` frame."""

    backend: str
    stack_bytes: int
    parallel: bool
    memory_bytes: int
    """Address space that compiling may add."""
    keep: bool
    """Whether the compiled module is wanted, or only the report."""


@dataclass(frozen=True)
class StatisticsForm:
    """How many numbers the bytes of the statistics hold, and what they stand for."""

    granularity: str
    columns: int
    levels: int
    targets: int
    classes: int


@dataclass(frozen=True)
class RunCommand:
    """The first part of a `RUN` frame."""

    backend: str
    call: str
    """The export to call."""
    request: dict[str, Any]
    """Fields of `build-request`."""
    granted: tuple[str, ...]
    seed: int
    limits: dict[str, int]
    """The limits of `SandboxLimits` that the worker counts."""
    run_seconds: float
    keep_log: bool
    history: tuple[dict[str, Any], ...] = ()
    """Records of `trial`, if `trial-scores` is granted."""
    shape: dict[str, Any] = field(default_factory=dict)
    """Record of `dataset-shape`, if granted."""
    statistics: StatisticsForm | None = None
    sample: tuple[int, int, int] | None = None
    """Examples, bytes of an input, bytes of a target."""


def dump(command: CompileCommand | RunCommand) -> bytes:
    """The bytes of a frame's first part."""
    return json.dumps(asdict(command)).encode()


def load_compile(part: Buffer) -> CompileCommand:
    """The command that `dump` wrote into a `COMPILE` frame."""
    return CompileCommand(**json.loads(part))


def load_run(part: Buffer) -> RunCommand:
    """The command that `dump` wrote into a `RUN` frame."""
    fields = json.loads(part)
    if fields["statistics"] is not None:
        fields["statistics"] = StatisticsForm(**fields["statistics"])
    return RunCommand(**fields)


def dump_statistics(statistics: "DatasetStatistics") -> tuple[StatisticsForm, bytes]:
    """The statistics' form, and their bytes.

    Float32 little-endian: columns of inputs, levels, quantiles, columns of targets; then uint64 counts.
    """
    form = StatisticsForm(
        granularity=statistics.granularity.value,
        columns=len(statistics.inputs),
        levels=len(statistics.quantile_levels),
        targets=len(statistics.targets),
        classes=len(statistics.class_counts),
    )
    numbers = (
        *_arrays(statistics.inputs),
        statistics.quantile_levels,
        statistics.input_quantiles,
        *_arrays(statistics.targets),
    )
    content = b"".join(array.astype("<f4").tobytes() for array in numbers)
    return form, content + statistics.class_counts.astype("<u8").tobytes()


def _arrays(columns: "Columns") -> tuple[Any, ...]:
    return columns.mean, columns.standard_deviation, columns.minimum, columns.maximum


@dataclass(frozen=True)
class StatisticsLists:
    """The statistics as the lists that cross into a builder."""

    granularity: str
    inputs: Lists
    levels: list[float]
    quantiles: list[list[float]]
    targets: Lists
    counts: list[int]


def load_statistics(form: StatisticsForm, content: Buffer) -> StatisticsLists:
    """The statistics that `dump_statistics` wrote; raises `struct.error` if form and bytes disagree."""
    floats = 4 * form.columns + form.levels * (1 + form.columns) + 4 * form.targets
    numbers = list(struct.unpack(f"<{floats}f{form.classes}Q", content))
    taken = 0

    def take(count: int) -> list[Any]:
        nonlocal taken
        taken += count
        return numbers[taken - count : taken]

    return StatisticsLists(
        granularity=form.granularity,
        inputs={name: take(form.columns) for name in COLUMN_FIELDS},
        levels=take(form.levels),
        quantiles=[take(form.columns) for _ in range(form.levels)],
        targets={name: take(form.targets) for name in COLUMN_FIELDS},
        counts=take(form.classes),
    )


def dump_sample(sample: "DatasetSample") -> tuple[tuple[int, int, int], bytes]:
    """Sizes of the sample, and its bytes: all inputs, then all targets, little-endian."""
    count = len(sample.inputs)
    inputs = sample.inputs.astype(sample.inputs.dtype.newbyteorder("<")).tobytes()
    targets = sample.targets.astype(sample.targets.dtype.newbyteorder("<")).tobytes()
    return (count, len(inputs) // max(count, 1), len(targets) // max(count, 1)), inputs + targets
