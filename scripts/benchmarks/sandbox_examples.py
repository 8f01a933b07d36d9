"""The example builders as the sandbox's benchmark runs them: all Python ones in one component, C by itself.

Every Python component holds the same interpreter, 18 MB of it, so one for all measures what each would.
"""

from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

import numpy as np

from chiron.builder_kit.build import build_project
from chiron.wasm_sandbox.capability_data import (
    CapabilityData,
    Columns,
    DatasetSample,
    DatasetShape,
    DatasetStatistics,
    Granularity,
)
from chiron.wire.contract import BuildRequest, Capability, CapabilityGrants, InputType, Task

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = ROOT / "builders"
PYTHON = (
    "digits_mlp", "frozen_digits", "regression", "resnet_images", "tabular_logistic", "tabular_mlp",
    "text_bag", "vgg_images",
)  # fmt: skip
IN_C = "logistic_c"
NOTHING = "nothing"
"""A builder that answers at once: what is left is starting."""
GRANTS = CapabilityGrants(granted=frozenset(Capability), sample_examples=16)

_IMAGES = (Task.CLASSIFICATION, (3, 32, 32), InputType.UINT8, 10)
_TABLE = (Task.CLASSIFICATION, (30,), InputType.FLOAT32, 2)
_ASKED = {
    "digits_mlp": (Task.CLASSIFICATION, (8, 8), InputType.UINT8, 10),
    "frozen_digits": (Task.CLASSIFICATION, (1, 8, 8), InputType.FLOAT32, 10),
    "regression": (Task.REGRESSION, (10,), InputType.FLOAT32, 0),
    "resnet_images": _IMAGES,
    "tabular_logistic": _TABLE,
    "tabular_mlp": _TABLE,
    "text_bag": (Task.CLASSIFICATION, (40,), InputType.FLOAT32, 3),
    "vgg_images": _IMAGES,
    IN_C: _TABLE,
    NOTHING: _TABLE,
}
_ENTRY = """
import {modules}
from chiron_builder import BuildRefused

MODULES = [{modules}]


def build(request):
    if request.trial == len(MODULES):
        raise BuildRefused("nothing to do")
    return MODULES[request.trial].build(request)
"""


@dataclass(frozen=True)
class Example:
    """A builder, what it is asked, and what it is told."""

    name: str
    component: bytes
    request: BuildRequest
    data: CapabilityData


def examples(place: Path) -> list[Example]:
    """Build them in `place`; the kit keeps what it built before."""
    gallery = _gallery(place / "gallery")
    named = [(name, gallery) for name in PYTHON]
    return [_example(name, component) for name, component in [*named, (IN_C, build_project(BUILDERS / IN_C))]]


def starting(place: Path) -> Example:
    """The builder that answers at once, in the same component."""
    return _example(NOTHING, _gallery(place / "gallery"))


def _gallery(directory: Path) -> bytes:
    directory.mkdir(exist_ok=True)
    for name in PYTHON:
        copyfile(BUILDERS / name / "builder.py", directory / f"{name}.py")
    (directory / "builder.py").write_text(_ENTRY.format(modules=", ".join(PYTHON)))
    (directory / "builder.toml").write_text('capabilities = ["log", "dataset-shape", "dataset-statistics"]\n')
    copyfile(BUILDERS / PYTHON[0] / "manifest.json", directory / "manifest.json")
    return build_project(directory)


def _example(name: str, component: bytes) -> Example:
    task, shape, dtype, classes = _ASKED[name]
    request = BuildRequest(
        task=task,
        input_shape=shape,
        input_dtype=dtype,
        classes=classes,
        max_parameters=1_000_000,
        trial=(*PYTHON, NOTHING).index(name) if name != IN_C else 0,
        trials=64,
    )
    return Example(name, component, request, data_for(request))


def data_for(request: BuildRequest) -> CapabilityData:
    """Made-up values for every capability."""
    random = np.random.default_rng(0)
    count = int(np.prod(request.input_shape))
    sample = np.zeros((16, *request.input_shape), request.input_dtype.value)

    def columns(number: int) -> Columns:
        return Columns(*(1 + random.random((4, number))).astype(np.float32))

    return CapabilityData(
        DatasetShape(1000, request.input_shape, request.target_shape, request.classes),
        DatasetStatistics(
            Granularity.ELEMENT,
            columns(count),
            np.array([0.25, 0.5, 0.75], np.float32),
            np.sort(random.random((3, count)), axis=0).astype(np.float32),
            columns(0 if request.classes else 1),
            np.full(request.classes, 100, np.uint64),
        ),
        DatasetSample(sample, np.zeros(16, np.int64)),
    )
