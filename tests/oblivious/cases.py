"""The graphs that are traced: the example builders', some written by hand, some drawn at random."""

import sys
from collections.abc import Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from chiron.builder_kit import chiron_builder as kit
from chiron.runtime.training.errors import TrainingFailed
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.errors import GraphRefused
from chiron.wasm_sandbox.recipe import MeanSquaredError, Recipe, Sgd, parse_recipe
from chiron.wire.contract import BuildRequest, Envelope, InputType, Oblivious, Task
from tests.oblivious.subject import PHASES, Case, Subject
from tests.support.graphs import graph_with_node
from tests.support.networks import Network, mlp
from tests.support.processes import ROOT
from tests.support.random_graphs import RandomGraph
from tests.support.specs import dataset_manifest, job_spec

ROWS = 3
PARAMETERS = 10**6
BUILDERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "text_bag": ("float32", (7,)),
    "digits_mlp": ("uint8", (8, 8)),
    "regression": ("float32", (6,)),
    "tabular_logistic": ("float32", (6,)),
    "tabular_mlp": ("float32", (6,)),
    "vgg_images": ("uint8", (3, 8, 8)),
    "resnet_images": ("uint8", (3, 8, 8)),
}
"""Input type and shape, by folder of `builders`. The other two use no operator that these do not."""
CLASSES, TARGETS = 3, 2


def examples_of_builders() -> Iterator[Case]:
    """What the example builders build, run as plain Python."""
    for name, (dtype, shape) in BUILDERS.items():
        regression = name == "regression"
        spec = _spec(shape, InputType(dtype), 0 if regression else CLASSES, (TARGETS,) if regression else ())
        request = spec.build_request()
        asked = kit.Request(
            request.task.value,
            shape,
            dtype,
            target_shape=tuple(request.target_shape),
            classes=request.classes,
            max_parameters=PARAMETERS,
        )
        plan = _module(name, shape).build(asked)
        graph = admit(plan.graph, request, Envelope(max_parameters=PARAMETERS), oblivious=spec.oblivious)
        yield Case(name, graph, parse_recipe(plan.recipe), spec, _data(spec))


def by_hand() -> Iterator[Case]:
    """Every metric, clipping and averaging; words of a table; a pool whose windows overlap."""
    recipe = Recipe.model_validate(
        {
            "metrics": ["accuracy", "top5", "auc", "f1"],
            "clip_norm": 0.5,
            "ema_decay": 0.9,
            "loss": {"kind": "cross-entropy", "label_smoothing": 0.1, "class_weights": [1, 2, 3]},
        }
    )
    spec = _spec((9,), InputType.FLOAT32, CLASSES)
    yield Case("all metrics", mlp(9, 7, CLASSES), recipe, spec, _data(spec))
    binary = Recipe.model_validate({"loss": {"kind": "binary-cross-entropy"}})
    yield Case("binary", mlp(9, 7, CLASSES), binary, spec, _data(spec))
    yield words(Oblivious.STRICT)
    yield pools(Oblivious.STRICT)


def words(oblivious: Oblivious) -> Case:
    """Rows of a table, by numbers that data decide."""
    net = Network([7])
    index = net.add("Cast", "input", to=TensorProto.INT64)
    found = net.add("Gather", net.normal("table", 500, 40, scale=0.5), index, axis=0)
    net.dense(net.add("ReduceMean", found, axes=[1], keepdims=0), "d", 40, CLASSES)
    spec = _spec((7,), InputType.FLOAT32, CLASSES, oblivious=oblivious)
    return Case(f"words, {oblivious}", net.admitted((CLASSES,)), Recipe(), spec, _data(spec, high=500))


def pools(oblivious: Oblivious) -> Case:
    """A convolution, and a pool of 3 × 3 whose windows overlap: its gradient goes where the largest was."""
    net = Network([1, 21, 21])
    drawn = net.conv("input", "c", 1, 4)
    pooled = net.add("MaxPool", drawn, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    net.dense(net.add("Flatten", pooled), "d", 4 * 11 * 11, CLASSES)
    spec = _spec((1, 21, 21), InputType.FLOAT32, CLASSES, oblivious=oblivious)
    return Case(f"pools, {oblivious}", net.admitted((CLASSES,)), Recipe(), spec, _data(spec))


def drawn(count: int, first: int = 0) -> Iterator[Case]:
    """The next graphs at random that are admitted, have a strict form, and can be trained."""
    recipe = Recipe(loss=MeanSquaredError(), optimizer=Sgd(learning_rate=1e-3))
    seed = first
    while count:
        seed += 1
        graph = RandomGraph(seed)
        spec = _spec(graph.shape, InputType.FLOAT32, 0)
        envelope = Envelope(max_parameters=PARAMETERS)
        try:
            data = graph.model().SerializeToString()
            admitted = admit(data, spec.build_request(), envelope, oblivious=spec.oblivious)
            case = Case(f"drawn {seed}", admitted, recipe, spec, _data(spec))
            _try(case)
        except (GraphRefused, TrainingFailed):
            continue
        except Exception as error:
            if not _of_the_engine(error):
                raise
            continue
        count -= 1
        yield case


def _try(case: Case) -> None:
    """Do everything once, in this process."""
    with np.errstate(all="ignore"):
        subject = Subject(case)
        subject.put(*case.data[0])
        for phase in PHASES:
            getattr(subject, phase)()


def _of_the_engine(error: Exception) -> bool:
    return isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")


def _module(name: str, shape: Sequence[int]) -> Any:
    """A builder's module, in a world where its library is installed and answers what it asks."""
    columns = SimpleNamespace(mean=(0.0,) * shape[-1], standard_deviation=(1.0,) * shape[-1])
    targets = SimpleNamespace(mean=(0.0,) * TARGETS, standard_deviation=(1.0,) * TARGETS)
    answers = ModuleType("chiron_builder.capabilities")
    statistics = SimpleNamespace(inputs=columns, targets=targets, examples=ROWS, class_counts=(1,) * CLASSES)
    vars(answers).update(
        statistics=lambda: statistics,
        Statistics=SimpleNamespace,
        dataset=lambda: SimpleNamespace(examples=ROWS),
        log=lambda text: None,
    )
    kept = {key: sys.modules.get(key) for key in ("chiron_builder", answers.__name__)}
    sys.modules |= {"chiron_builder": kit, answers.__name__: answers}
    try:
        found = spec_from_file_location(f"example_{name}", Path(ROOT, "builders", name, "builder.py"))
        assert found is not None
        assert found.loader is not None
        module = module_from_spec(found)
        found.loader.exec_module(module)
        return module
    finally:
        for key, before in kept.items():
            sys.modules.pop(key)
            if before is not None:
                sys.modules[key] = before


def _spec(
    shape: Sequence[int],
    dtype: InputType,
    classes: int,
    target: tuple[int, ...] = (),
    oblivious: Oblivious = Oblivious.STRICT,
) -> Any:
    task = Task.CLASSIFICATION if classes else Task.REGRESSION
    dataset = dataset_manifest(
        input_shape=tuple(shape), input_dtype=dtype, classes=classes, task=task, target_shape=target
    )
    return job_spec(dataset=dataset, parameters=PARAMETERS, oblivious=oblivious)


def _data(spec: Any, high: float = 20.0) -> tuple[tuple[NDArray[Any], NDArray[Any]], ...]:
    """Inputs and targets of one shape: two at random, one of them twice, and extremes."""
    rng = np.random.default_rng(7)
    dataset = spec.dataset
    size = (ROWS, *dataset.input_shape)
    if dataset.classes:
        targets = [np.arange(ROWS) * k % dataset.classes for k in (1, 2, 0)]
    else:
        targets = [rng.normal(size=(ROWS, *dataset.target_shape)).astype(np.float32) for _ in range(3)]
    if dataset.input_dtype is InputType.UINT8:
        x = [rng.integers(0, 256, size).astype(np.uint8) for _ in range(2)]
        extremes = [np.full(size, value, np.uint8) for value in (0, 255)]
    else:
        x = [rng.uniform(low, high, size).astype(np.float32) for low in (0, -1)]
        mixed = x[1].copy()
        odd = [np.inf, 0, -0.0, 1e-42, -np.inf, 1e30]
        mixed.reshape(-1)[::2] = np.resize(odd, mixed.reshape(-1)[::2].size)
        extremes = [np.full(size, value, np.float32) for value in (0, np.nan)] + [mixed]
    first, second, third = targets
    return ((x[0], first), (x[0], first), (x[1], second), *((x, third) for x in extremes))


def with_node(operator: str, inputs: Sequence[str], **attributes: Any) -> tuple[bytes, BuildRequest]:
    """A graph with this node, and the request that it answers."""
    return graph_with_node(operator, inputs, **attributes), _spec((4,), InputType.FLOAT32, 0).build_request()
