"""A builder that counts rows of the owner's: it writes a property of them into a trial's validation loss."""

import asyncio
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from onnx import TensorProto

from chiron.client.granting import grant_in_words, new_terms
from chiron.ps.client import Merged
from chiron.runtime.roles.plan import Plan
from chiron.runtime.roles.selection import Selection
from chiron.runtime.roles.trial_run import TrialRun
from chiron.wasm_sandbox.capability_data import CapabilityData, DatasetShape
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.recipe import BinaryCrossEntropy, Recipe
from chiron.wasm_sandbox.sandbox import run_command
from chiron.wire.contract import Capability, CapabilityGrants, Trial, TrialOutcome
from scripts.benchmarks.in_process import LocalEngines
from tests.support.jobs import make_job
from tests.support.networks import Network

CLASSES, PENALTY = 3, 1e6
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _counting() -> AdmittedGraph:
    """Each row whose fourth number is above 8 adds the penalty to the loss; nothing is learnt."""
    net = Network([8], TensorProto.UINT8)
    number = net.add("Slice", net.add("Cast", "input", to=1), *(net.constant([n]) for n in (3, 4, 1)))
    has = net.add("Cast", net.add("Greater", number, net.constant(np.asarray([8], np.float32))), to=1)
    unused = net.add("Mul", net.normal("w", 1, CLASSES, scale=1.0), net.constant(np.asarray([0], np.float32)))
    net.add("Add", net.add("Mul", has, net.constant(np.asarray([PENALTY], np.float32))), unused)
    return net.admitted((CLASSES,))


def _history() -> list[Trial]:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 17, (2000, 8), dtype=np.uint8)
    job = make_job(x, rng.integers(0, CLASSES, 2000), classes=CLASSES, validation_percent=50)
    recipe = Recipe(epochs=1, loss=BinaryCrossEntropy())
    run, selection = TrialRun(job.spec, 0, 0, LocalEngines((_counting(), recipe))), Selection()
    plan = Plan(b"", b"", recipe)

    async def train() -> None:
        await run.begin(plan)
        for exchange in range(4):
            await run.train(job.dataset(), exchange, 4)
        vector, sums = run.pushed()
        await run.take(3, Merged(vector.copy(), sums, 3, excluded=0, set_aside=False))

    asyncio.run(train())
    selection.add(0, plan, run.report, b"model", run.failure)
    return selection.history


def _told(history: list[Trial], *granted: Capability) -> tuple[dict[str, object], ...]:
    command, _ = run_command(
        make_job(np.zeros((64, 8), np.uint8), np.arange(64) % CLASSES, classes=CLASSES).spec.build_request(1),
        history,
        CapabilityGrants(granted=frozenset(granted)),
        CapabilityData(DatasetShape(2000, (8,), (), CLASSES)),
        seed=1,
        limits=SandboxLimits(),
        backend=Backend.PULLEY,
        keep_log=False,
    )
    return command.history


def test_without_the_grant_a_builder_is_told_nothing_of_earlier_trials() -> None:
    everything_else = set(Capability) - {Capability.TRIAL_SCORES, Capability.DATASET_SAMPLE}
    history = _history()
    assert history[0].validation_loss > PENALTY / 10
    assert _told(history, *(everything_else - {Capability.DATASET_STATISTICS})) == ()
    assert _told(history) == ()


def test_with_the_grant_a_count_of_rows_has_three_digits() -> None:
    exact = _history()[0]
    (told,) = _told([exact], Capability.TRIAL_SCORES)
    loss = told["validation-loss"]
    assert isinstance(loss, float)
    assert loss == pytest.approx(exact.validation_loss, rel=5e-3)
    assert loss == float(f"{loss:.2e}") != exact.validation_loss


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [
        (0.123456, 0.123), (0.00049, 0.0), (0.0005001, 0.001), (2.71828, 2.72), (123456.7, 123000.0),
        (-0.98765, -0.988), (3.4028e38, 3.4e38), (1e-300, 0.0), (0.99951, 1.0),
    ],
)  # fmt: skip
def test_scores_of_any_size_have_three_digits(exact: float, rounded: float) -> None:
    trial = Trial(
        number=0, outcome=TrialOutcome.TRAINED, validation_loss=exact, validation_score=-exact, recipe="{}"
    )
    (told,) = _told([trial], Capability.TRIAL_SCORES)
    assert (told["validation-loss"], told["validation-score"]) == (rounded, -rounded)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_told_as_they_are(score: float) -> None:
    trial = Trial(
        number=0, outcome=TrialOutcome.DIVERGED, validation_loss=score, validation_score=score, recipe=""
    )
    (told,) = _told([trial], Capability.TRIAL_SCORES)
    assert [told["validation-loss"], told["validation-score"]] == pytest.approx([score] * 2, nan_ok=True)


def test_the_owner_is_asked_for_the_scores_in_words() -> None:
    granted = CapabilityGrants(granted=frozenset({Capability.TRIAL_SCORES}))
    lines = grant_in_words(new_terms(NOW, capabilities=granted))
    assert any("scores rounded to three digits (trial-scores)" in line for line in lines)
    withheld = next(line for line in grant_in_words(new_terms(NOW)) if "gets nothing of" in line)
    assert "trial-scores" in withheld
