"""Every example builder, run in the sandbox and trained on real data by the runtime's own learner."""

import ast
import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load
from sklearn import datasets

from chiron.builder_kit.build import build_project
from chiron.runtime.datasets.statistics import collect
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import Assets
from chiron.wasm_sandbox.capability_data import CapabilityData
from chiron.wasm_sandbox.compilation import inspect_component
from chiron.wasm_sandbox.errors import BuilderFailed
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe, parse_recipe
from chiron.wasm_sandbox.sandbox import BuilderOutput, Sandbox
from chiron.wire.contract import BuildRequest, Capability, Trial, TrialOutcome
from chiron.wire.reports import TrainingReport
from tests.builders.conftest import EXAMPLES, GRANTS, LOGGED, PROBE, ROOT, TEMPLATE, example
from tests.builders.real_data import documentation, photographs
from tests.support.jobs import Job, make_job, train

Build = Callable[[str, BuildRequest, CapabilityData], BuilderOutput]
FUNCTIONS = {
    "log": Capability.LOG,
    "dataset": Capability.DATASET_SHAPE,
    "statistics": Capability.DATASET_STATISTICS,
    "sample": Capability.DATASET_SAMPLE,
    "random_u64": Capability.RANDOM,
    "random_bytes": Capability.RANDOM,
}


class Trained(NamedTuple):
    """An example's result."""

    graph: AdmittedGraph
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    report: TrainingReport


def _told(job: Job) -> CapabilityData:
    return asyncio.run(collect(job.dataset(), range(job.spec.dataset.chunks), GRANTS, 1))


def learned(
    name: str,
    build: Build,
    x: NDArray[Any],
    y: NDArray[Any],
    *,
    classes: int = 0,
    assets: Assets | None = None,
    **changes: Any,
) -> Trained:
    """Build, admit within the example's own envelope, train, and report on rows that were not trained on."""
    envelope = example(name).manifest.envelope
    job: Job = make_job(
        x,
        y,
        classes=classes,
        rows=128,
        parameters=envelope.max_parameters,
        exchanges=changes.pop("exchanges", 2),
        validation_percent=25,
    )
    request = job.spec.build_request()
    plan = build(name, request, _told(job))
    assert len(plan.graph) + len(plan.recipe) <= envelope.max_graph_bytes
    graph = admit(plan.graph, request, envelope, assets=assets)
    recipe: Recipe = parse_recipe(plan.recipe).model_copy(update=changes)
    learners, reports = train(job, graph, recipe)
    after = learners[0].read()
    return Trained(graph, learners[0].initial(), after, reports[-1])


def test_digits_mlp_reads_handwritten_digits(built: Build) -> None:
    digits = datasets.load_digits()
    x = digits.images.astype(np.uint8)
    result = learned("digits_mlp", built, x, digits.target.astype(np.int64), classes=10, epochs=15)
    assert (result.report.validation_accuracy or 0) >= 0.95


def test_tabular_logistic_tells_tumours_apart_from_raw_rows(built: Build) -> None:
    cancer = datasets.load_breast_cancer()
    x = cancer.data.astype(np.float32)
    result = learned("tabular_logistic", built, x, cancer.target.astype(np.int64), classes=2, epochs=15)
    assert (result.report.validation_accuracy or 0) >= 0.93


def test_tabular_mlp_classifies_wines(built: Build) -> None:
    wine = datasets.load_wine()
    x = wine.data.astype(np.float32)
    result = learned("tabular_mlp", built, x, wine.target.astype(np.int64), classes=3)
    assert (result.report.validation_accuracy or 0) >= 0.9


@pytest.mark.parametrize("name", ["regression", "tabular_mlp"])
def test_regressions_predict_the_course_of_diabetes(built: Build, name: str) -> None:
    diabetes = datasets.load_diabetes(scaled=False)
    x, y = diabetes.data.astype(np.float32), diabetes.target.astype(np.float32)
    result = learned(name, built, x, y, metrics=("rmse", "r2"))
    # A linear model reaches about 0.5 on this data set; 0 is the mean's.
    assert (result.report.validation_r2 or 0) >= 0.3


@pytest.mark.parametrize("name", ["vgg_images", "resnet_images"])
def test_networks_for_images_learn_from_photographs(built: Build, name: str) -> None:
    x, y = photographs(classes=2, of_each=150)
    result = learned(name, built, x, y, classes=2, epochs=3, batch_size=32)
    assert (result.report.validation_accuracy or 0) >= 0.6
    assert [p.name for p in result.graph.parameters if not p.trainable]


def test_text_bag_tells_which_library_a_paragraph_documents(built: Build) -> None:
    x, y = documentation()
    result = learned("text_bag", built, x, y, classes=3, epochs=6)
    assert (result.report.validation_accuracy or 0) >= 0.85


def test_frozen_digits_learns_the_last_layer_only(built: Build) -> None:
    digits = datasets.load_digits()
    x, y = (digits.images / 16).astype(np.float32)[:, None], digits.target.astype(np.int64)
    files = {name: path.read_bytes() for name, path in example("frozen_digits").assets().items()}
    result = learned("frozen_digits", built, x, y, classes=10, epochs=15, assets=Assets(files))
    assert (result.report.validation_accuracy or 0) >= 0.93
    at = 0
    for parameter in result.graph.parameters:
        part = slice(at, at + parameter.elements)
        same = bool(np.array_equal(result.before[part], result.after[part]))
        assert same == parameter.name.startswith("trunk"), parameter.name
        if same:
            np.testing.assert_array_equal(
                result.after[part], load(files["trunk"])[parameter.name].reshape(-1)
            )
        at += parameter.elements


def test_the_template_of_a_new_project_is_a_builder_that_learns(built: Build) -> None:
    iris = datasets.load_iris()
    job = make_job(
        iris.data.astype(np.float32), iris.target.astype(np.int64), classes=3, parameters=1_000_000
    )
    request = job.spec.build_request()
    plan = built(TEMPLATE, request, _told(job))
    _, reports = train(job, admit(plan.graph, request, job.spec.envelope), parse_recipe(plan.recipe))
    assert (reports[-1].validation_accuracy or 0) >= 0.8


def test_revise_proposes_other_learning_rates_and_then_nothing(gallery: bytes, sandbox: Sandbox) -> None:
    wine = datasets.load_wine()
    job = make_job(wine.data.astype(np.float32), wine.target.astype(np.int64), classes=3)
    data = _told(job)
    proposed = []
    history: list[Trial] = []
    for number in range(1, 5):
        request = job.spec.build_request().model_copy(update={"trial": number, "trials": 5})
        plan = sandbox.revise(gallery, request, history, GRANTS, data, seed=1)
        if plan is None:
            break
        rate = parse_recipe(plan.recipe).optimizer.learning_rate
        proposed.append(rate)
        history.append(
            Trial(
                number=number,
                outcome=TrialOutcome.TRAINED,
                validation_loss=0.5,
                validation_score=0.9,
                recipe=plan.recipe.decode(),
            )
        )
    assert proposed == [0.003, 0.03, 0.001]


def test_logistic_c_learns_as_its_python_neighbours_do(tmp_path: Path, sandbox: Sandbox) -> None:
    pytest.importorskip("ziglang")
    component = build_project(ROOT / "builders" / "logistic_c", cache=tmp_path / "a")
    assert component == build_project(ROOT / "builders" / "logistic_c", cache=tmp_path / "b"), "reproducible"
    assert inspect_component(component).capabilities == ()
    digits = datasets.load_digits()
    x = (digits.images / 16).astype(np.float32)

    def build(_name: str, request: BuildRequest, data: CapabilityData) -> BuilderOutput:
        return Sandbox().build(component, request, GRANTS, data, seed=1)

    result = learned("logistic_c", build, x, digits.target.astype(np.int64), classes=10, epochs=10)
    assert (result.report.validation_accuracy or 0) >= 0.9
    job = make_job(x, digits.target.astype(np.float32))
    with pytest.raises(BuilderFailed) as failure:
        build("logistic_c", job.spec.build_request(), _told(job))
    assert failure.value.detail == "this builder classifies"


def _lines() -> dict[str, Any]:
    assert {severity for severity, _ in LOGGED} == {"debug"}
    return {name: value for _, text in LOGGED for name, value in json.loads(text).items()}


def test_the_library_hands_on_what_every_capability_tells(built: Build) -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    y = np.arange(6, dtype=np.float32)
    job = make_job(x, y)
    data = _told(job)
    built(PROBE, job.spec.build_request(), data)
    told = _lines()
    assert told["shape"] == [6, [2], [], 0]
    assert told["means"] == [5.0, 6.0]
    assert told["granularity"] == "element"
    assert data.statistics is not None
    assert told["levels"] == data.statistics.quantile_levels.tolist()
    assert told["counts"] == []
    assert data.sample is not None
    inputs, targets = data.sample.inputs.tolist(), data.sample.targets
    assert told["sample"] == [
        [row, target.tobytes().hex()] for row, target in zip(inputs, targets, strict=True)
    ]
    first = told["random"]
    built(PROBE, job.spec.build_request(), data)
    assert _lines()["random"] == first, "the stream depends on the job's seed only"


def test_a_mistake_in_a_builder_ends_its_run_and_tells_the_operator_nothing(built: Build) -> None:
    x, y = np.ones((6, 2), np.float32), np.arange(6) % 2
    job = make_job(x, y, classes=2)
    with pytest.raises(BuilderFailed) as failure:
        built(PROBE, job.spec.build_request(), _told(job))
    assert failure.value.code == "builder-trapped"
    assert "mistake" not in str(failure.value)
    assert _lines()["counts"] == [3, 3]


def test_a_builder_says_what_it_is_not_for(built: Build) -> None:
    digits = datasets.load_digits()
    job = make_job(digits.images.astype(np.float32), digits.target.astype(np.float32))
    with pytest.raises(BuilderFailed) as failure:
        built("digits_mlp", job.spec.build_request(), _told(job))
    assert failure.value.code == "builder-refused-request"
    assert failure.value.detail == "this builder classifies"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_asks_for_what_it_uses_and_no_more(name: str) -> None:
    project = example(name)
    tree = ast.parse((project.directory / "builder.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "chiron_builder.capabilities"
        for alias in node.names
    }
    used = {FUNCTIONS[name] for name in imported & FUNCTIONS.keys()}
    assert used == project.settings.capabilities
    assert project.manifest.name.replace("-", "_") in (name, f"table_{name}")
