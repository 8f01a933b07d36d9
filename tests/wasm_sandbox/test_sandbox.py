"""A builder gets what was granted, in a process of its own; its answer is the same every time, everywhere."""

import json
from collections.abc import Callable

import pytest

from chiron.wasm_sandbox.capabilities import RandomStream
from chiron.wasm_sandbox.capability_data import CapabilityData, Columns
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.errors import CapabilityNotGranted, Code, SandboxError
from chiron.wasm_sandbox.sandbox import Sandbox
from chiron.wire.contract import BuildRequest, Capability, CapabilityGrants, Trial, TrialOutcome
from tests.corpus.components import MODULES
from tests.wasm_sandbox.conftest import (
    EVERYTHING,
    LOG_ONLY,
    NOTHING,
    QUICK,
    REQUEST,
    data,
    small_builder,
)

Asking = Callable[[str], BuildRequest]
PLAN = b"\0\0\0\0" + b"".join(number.to_bytes(4, "little") for number in (36, 3, 40, 2)) + b"abc\0{}"


def columns(found: Columns) -> dict[str, list[float]]:
    return {
        "mean": found.mean.tolist(),
        "standard_deviation": found.standard_deviation.tolist(),
        "minimum": found.minimum.tolist(),
        "maximum": found.maximum.tolist(),
    }


@pytest.fixture
def probes() -> Sandbox:
    return Sandbox(QUICK, cache=MODULES)


@pytest.mark.usefixtures("compiled_probes")
def test_a_builder_sees_the_request_and_what_every_capability_tells(
    python_probes: bytes, asking: Asking
) -> None:
    lines: list[tuple[str, str]] = []
    sandbox = Sandbox(QUICK, cache=MODULES, log=lambda severity, message: lines.append((severity, message)))
    request, given = asking("echo"), data()
    seen = json.loads(sandbox.build(python_probes, request, EVERYTHING, given, seed=5).recipe)
    assert seen["request"] == {
        "task": "CLASSIFICATION", "input_shape": [2, 2], "input_type": "UINT8", "target_shape": [],
        "classes": 3, "max_parameters": 1000, "trial": request.trial, "trials": 64,
    }  # fmt: skip
    assert seen["shape"] == {"examples": 41, "input_shape": [2, 2], "target_shape": [], "classes": 3}
    statistics, sample = given.statistics, given.sample
    assert statistics is not None
    assert sample is not None
    assert seen["granularity"] == "ELEMENT"
    assert seen["inputs"] == columns(statistics.inputs)
    assert seen["targets"] == columns(statistics.targets)
    assert seen["levels"] == statistics.quantile_levels.tolist()
    assert seen["quantiles"] == statistics.input_quantiles.tolist()
    assert seen["counts"] == statistics.class_counts.tolist()
    assert seen["count"] == 3  # Granted; the data holds five.
    assert seen["samples"] == [
        {"input": list(x.tobytes()), "target": list(y.tobytes())}
        for x, y in zip(sample.inputs[:3], sample.targets[:3], strict=True)
    ]
    assert seen["beyond"] is None
    stream = RandomStream(5)
    eight = [stream.take(8), stream.take(5), stream.take(8)]
    assert seen["random"] == [
        int.from_bytes(eight[0], "little"), list(eight[1]), int.from_bytes(eight[2], "little"), [],
    ]  # fmt: skip
    assert lines == [("warning", "line one"), ("debug", "line α")]


@pytest.mark.usefixtures("compiled_probes")
def test_revise_sees_the_history_and_may_have_no_idea(
    probes: Sandbox, python_probes: bytes, asking: Asking
) -> None:
    history = [
        Trial(
            number=0, outcome=TrialOutcome.TRAINED, validation_loss=2.7182, validation_score=0.75, recipe="{}"
        ),
        Trial(
            number=1,
            outcome=TrialOutcome.REFUSED,
            validation_loss=float("nan"),
            validation_score=float("nan"),
            recipe='{"é": 1}',
        ),
    ]
    request = asking("echo")
    plan = probes.revise(python_probes, request, history, EVERYTHING, data(), seed=5)
    assert plan is not None
    first, second = json.loads(plan.recipe)["history"]
    assert first == {
        "number": 0, "outcome": "TRAINED", "validation_loss": 2.72, "validation_score": 0.75, "recipe": "{}",
    }  # fmt: skip
    assert (second["outcome"], second["recipe"]) == ("REFUSED", '{"é": 1}')
    assert second["validation_loss"] != second["validation_loss"]
    assert probes.revise(python_probes, request, [], EVERYTHING, data(), seed=5) is None


def test_a_builder_that_does_not_revise_has_no_better_idea() -> None:
    assert Sandbox(QUICK).revise(small_builder(), REQUEST, [], NOTHING, data(), seed=0) is None


@pytest.mark.usefixtures("compiled_probes")
@pytest.mark.parametrize("missing", sorted(Capability))
def test_what_was_not_granted_is_named_before_any_code_runs(
    probes: Sandbox, python_probes: bytes, asking: Asking, missing: Capability
) -> None:
    sample = 0 if missing is Capability.DATASET_SAMPLE else 1
    grants = CapabilityGrants(granted=frozenset(Capability) - {missing}, sample_examples=sample)
    with pytest.raises(CapabilityNotGranted) as refusal:
        probes.build(python_probes, asking("echo"), grants, data(), seed=0)
    assert refusal.value.capability == missing


def test_granted_data_has_to_be_there() -> None:
    bare = CapabilityData(data().shape)
    for capability, sample in ((Capability.DATASET_STATISTICS, 0), (Capability.DATASET_SAMPLE, 1)):
        grants = CapabilityGrants(granted=frozenset({capability}), sample_examples=sample)
        with pytest.raises(ValueError, match=capability):
            Sandbox(QUICK).build(small_builder(), REQUEST, grants, bare, seed=0)


@pytest.mark.usefixtures("compiled_probes")
def test_a_python_builder_answers_the_same_every_time(
    probes: Sandbox, python_probes: bytes, asking: Asking
) -> None:
    plans = [
        probes.build(python_probes, asking("orders"), EVERYTHING, data(seed), seed=seed) for seed in (1, 1, 2)
    ]
    assert plans[0].graph == plans[1].graph == plans[2].graph
    assert plans[0].report.fuel == plans[1].report.fuel


def test_floats_are_the_same_on_pulley_and_cranelift(floats: bytes) -> None:
    plans = [
        Sandbox(QUICK, backend=backend).build(floats, REQUEST, LOG_ONLY, data(), seed=0)
        for backend in (Backend.PULLEY, Backend.CRANELIFT, Backend.PULLEY)
    ]
    assert len({plan.graph for plan in plans}) == 1
    assert len({plan.report.fuel for plan in plans}) == 1
    assert any(plans[0].graph)


def test_random_is_of_the_seed() -> None:
    streams = [RandomStream(seed) for seed in (1, 1, 2)]
    parts = [b"".join(stream.take(count) for count in (3, 0, 100, 64, 1)) for stream in streams]
    assert parts[0] == parts[1] == RandomStream(1).take(168)
    assert parts[0] != parts[2]


def test_a_plan_is_bounded_to_the_byte() -> None:
    component = small_builder(data=PLAN)
    limits = QUICK.model_copy(update={"graph_bytes": 3, "recipe_bytes": 2})
    plan = Sandbox(limits).build(component, REQUEST, NOTHING, data(), seed=0)
    assert (plan.graph, plan.recipe) == (b"abc", b"{}")
    for change in ({"graph_bytes": 2}, {"recipe_bytes": 1}):
        tight = limits.model_copy(update=change)
        with pytest.raises(SandboxError) as refusal:
            Sandbox(tight).build(component, REQUEST, NOTHING, data(), seed=0)
        assert refusal.value.code == Code.PLAN_TOO_LARGE


def test_fuel_is_counted_to_the_instruction() -> None:
    component = small_builder()
    used = Sandbox(QUICK).build(component, REQUEST, NOTHING, data(), seed=0).report.fuel
    assert 0 < used < 1000
    for fuel, enough in ((used, True), (used - 1, False)):
        sandbox = Sandbox(QUICK.model_copy(update={"fuel": fuel}))
        if enough:
            sandbox.build(component, REQUEST, NOTHING, data(), seed=0)
        else:
            with pytest.raises(SandboxError) as refusal:
                sandbox.build(component, REQUEST, NOTHING, data(), seed=0)
            assert refusal.value.code == Code.BUILDER_OUT_OF_FUEL


@pytest.mark.usefixtures("compiled_probes")
def test_a_log_is_kept_within_its_bounds_and_only_for_the_author(
    python_probes: bytes, asking: Asking
) -> None:
    lines: list[str] = []
    limits = QUICK.model_copy(update={"log_lines": 1})
    author = Sandbox(limits, cache=MODULES, log=lambda _severity, message: lines.append(message))
    report = author.build(python_probes, asking("echo"), EVERYTHING, data(), seed=0).report
    assert (lines, report.log_lines) == (["line one"], 2)
    enclave = Sandbox(QUICK, cache=MODULES)
    report = enclave.build(python_probes, asking("echo"), EVERYTHING, data(), seed=0).report
    assert (report.log, report.log_lines) == ((), 2)
