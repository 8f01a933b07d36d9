"""A job whose enclaves die at any moment ends in the same model, bit for bit, and in the same reports."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chiron.api.launchers.launcher import LaunchOrder
from chiron.wire.attestation import Role
from chiron.wire.jobs import JobState, PublicFailure
from tests.support import graphs
from tests.support.builders import INPUT, UINT8, orderly, revising
from tests.support.mortal import LEAD, OTHER, SERVER, Ended, MortalWorld, expect_same
from tests.support.roles import Death
from tests.support.specs import builder_manifest

STATEFUL: dict[str, Any] = {
    "ema_decay": 0.9,
    "early_stop": {"patience": 2, "minimum_improvement": 0.4},
    "optimizer": {"kind": "adamw", "learning_rate": 0.02, "weight_decay": 0.1},
}
"""A recipe with every kind of state that a trainer carries over an exchange."""
MERGED = "PUT checkpoint-parameter-server"
LEADS, OTHERS = "PUT checkpoint-trainer-0", "PUT checkpoint-trainer-1"


def expect_same_and_no_more(ended: Ended, undisturbed: Ended) -> None:
    """The same, and every object that was stored on the way has the name and size of an undisturbed one."""
    expect_same(ended, undisturbed)
    assert ended.objects == undisturbed.objects


VARIANTS: dict[str, dict[str, Any]] = {
    "float32 with outer momentum": {"outer_momentum": 0.9, "outer_learning_rate": 0.7},
    "bfloat16 with error feedback": {"dtype": "bfloat16", "clip_norm": 0.5},
}


@pytest.mark.parametrize("terms", VARIANTS.values(), ids=VARIANTS)
async def test_deaths_at_any_moment_change_no_bit(world: MortalWorld, terms: dict[str, Any]) -> None:
    component = orderly(**STATEFUL)
    undisturbed = await world.run(component, terms=terms)
    assert undisturbed.reports[-1].validation_loss is not None
    deaths = (
        # The checkpoint is stored, the change not sent: its exchange is done again.
        Death((OTHER,), OTHERS, 2, heard=True),
        # It is not stored: the exchange before is made again, and answered from the last merge.
        Death((LEAD,), LEADS, 4, heard=False),
        # Merged and kept, and nobody was told; and nobody is left.
        Death((SERVER, LEAD, OTHER), MERGED, 6, heard=True),
        # Told, and not reported.
        Death((LEAD,), "PUT report-0004", 1, heard=False),
        # After the last exchange.
        Death((LEAD,), "PUT model", 1, heard=False),
        Death((LEAD, SERVER), "PUT outcome", 1, heard=True),
    )
    expect_same_and_no_more(await world.run(component, *deaths, terms=terms), undisturbed)


async def test_a_killed_leading_trainer_remembers_its_trials(world: MortalWorld) -> None:
    """Three trials: the second is the best, in the third the builder has no better idea."""
    recipe = {"optimizer": {"kind": "adamw", "learning_rate": 1e-6}, "batch_size": 32, "epochs": 1}
    better = recipe | {"optimizer": {"kind": "adamw", "learning_rate": 0.02}}
    graph = graphs.linear(INPUT, UINT8)
    component = revising(graph, json.dumps(recipe).encode(), json.dumps(better).encode())
    undisturbed = await world.run(component, trials=3)
    deaths = (
        Death((LEAD,), "PUT checkpoint-leader", 1, heard=True),
        # Weighed, and nothing of the second trial kept yet: the first trial's last exchange is made again.
        Death((LEAD,), "PUT checkpoint-leader", 2, heard=False),
        Death((LEAD, OTHER), LEADS, 5, heard=True),
        Death((LEAD,), "PUT report-0004", 1, heard=True),
        Death((LEAD,), "PUT model", 1, heard=True),
    )
    ended = await world.run(component, *deaths, trials=3)
    expect_same_and_no_more(ended, undisturbed)
    assert (await world.owner.outcome(ended.job)).metrics == (
        await world.owner.outcome(undisturbed.job)
    ).metrics


def learned(ended: Ended) -> list[dict[str, Any]]:
    """What the owner is told of training: all but the slots, which are measured."""
    return [report.model_dump(exclude={"slot_s", "late_slots"}) for report in ended.reports]


async def test_a_paced_job_gives_no_step_up_for_a_restart(world: MortalWorld) -> None:
    """Pacing changes no bit of the model, nor do deaths in between."""
    # Slots that a busy machine has room in, too: engines' processes start in the first of them.
    envelope = builder_manifest().envelope.model_copy(update={"build_seconds": 2.0})
    world.manifest["envelope"] = envelope
    component = orderly(**STATEFUL)
    undisturbed = await world.run(component, exchanges=4)
    deaths = (
        Death((OTHER,), OTHERS, 2, heard=True),
        Death((SERVER, LEAD), MERGED, 3, heard=True),
    )
    terms = {"unpaced": False, "period_s": 0.3}
    ended = await world.run(component, *deaths, exchanges=4, terms=terms)
    assert (ended.job.state, ended.job.failure) == (JobState.SUCCEEDED, None)
    assert ended.model == undisturbed.model
    assert learned(ended) == learned(undisturbed)
    outcome = await world.owner.outcome(ended.job)
    assert outcome.metrics is not None
    assert outcome.metrics.given_up == 0


async def test_without_checkpoints_a_killed_trainer_goes_on_lightly(world: MortalWorld) -> None:
    terms = {"trainer_checkpoints": False}
    death = Death((OTHER,), "GET datasets", 1, heard=True)
    ended = await world.run(orderly(), death, terms=terms)
    assert ended.job.state is JobState.SUCCEEDED
    assert not (world.state / "blobs/jobs" / ended.job.spec.job / "checkpoint-trainer-1").exists()


LOOSE: dict[str, dict[str, Any]] = {
    "without a barrier": {"mode": "async"},
    "where the others do not wait": {"terms": {"deadline_s": 0.05}},
}


@pytest.mark.parametrize("request_", LOOSE.values(), ids=LOOSE)
async def test_where_the_others_go_on_a_killed_trainer_takes_up_where_they_are(
    world: MortalWorld, request_: dict[str, Any]
) -> None:
    deaths = (
        Death((OTHER,), OTHERS, 2, heard=True),
        Death((LEAD,), LEADS, 4, heard=False),
        Death((SERVER, OTHER), MERGED, 6, heard=True),
    )
    ended = await world.run(orderly(**STATEFUL), *deaths, **request_)
    assert (ended.job.state, ended.job.failure) == (JobState.SUCCEEDED, None), world.codes
    assert ended.model
    assert [report.exchange for report in ended.reports] == list(range(6))


def withhold(state: Path, job: str, name: str) -> None:
    """The host says that there is no such object."""
    with sqlite3.connect(state / "gateway.sqlite3") as database:
        database.execute("DELETE FROM objects WHERE job = ? AND name = ?", (job, name))
    database.close()


@pytest.mark.parametrize("trials", [1, 2])
async def test_a_leading_trainers_checkpoint_that_was_rolled_back_or_withheld_ends_the_job(
    world: MortalWorld, trials: int
) -> None:
    """Of one trial it is withheld, of two the first trial's is served in the second."""
    first: list[bytes] = []

    def before(order: LaunchOrder) -> None:
        for path in (world.state / "blobs" / "jobs" / order.job).glob("checkpoint-leader/*"):
            if trials == 1:
                withhold(world.state, order.job, "checkpoint-leader")
            elif not first:
                first.append(path.read_bytes())
            else:
                path.write_bytes(first[0])

    world.launcher.before = before
    deaths = [Death((LEAD,), LEADS, 2, heard=True), Death((LEAD,), LEADS, 6, heard=True)]
    ended = await world.run(orderly(), *deaths[-trials:], trials=trials)
    assert (ended.job.state, ended.job.failure) == (JobState.FAILED, PublicFailure.INPUT_CORRUPTED)
    assert world.codes[0] == "checkpoint-rolled-back"


@dataclass
class CheatingHost:
    """Exchanges trainer 1's checkpoint when it is launched for the third time."""

    cheat: str
    state: Path
    first: bytes = b""

    def before(self, order: LaunchOrder) -> None:
        """Called at each launch."""
        if (order.role, order.index) != (Role.TRAINER, 1):
            return
        objects = self.state / "blobs" / "jobs" / order.job
        for path in objects.glob("checkpoint-trainer-1/*"):
            if not self.first:
                self.first = path.read_bytes()
            elif self.cheat == "rolled back":
                path.write_bytes(self.first)
            elif self.cheat == "withheld":
                withhold(self.state, order.job, "checkpoint-trainer-1")
            elif self.cheat == "altered":
                path.write_bytes(path.read_bytes()[:-1] + b"\0")
            else:
                other = next(objects.glob("checkpoint-trainer-0/*"))
                path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("cheat", ["rolled back", "withheld", "altered", "another trainer's"])
async def test_a_checkpoint_other_than_the_last_ends_the_job(world: MortalWorld, cheat: str) -> None:
    world.launcher.before = CheatingHost(cheat, world.state).before
    deaths = Death((OTHER,), OTHERS, 1, heard=True), Death((OTHER,), OTHERS, 5, heard=True)
    ended = await world.run(orderly(), *deaths)
    assert (ended.job.state, ended.job.failure) == (JobState.FAILED, PublicFailure.INPUT_CORRUPTED)
    expected = "checkpoint-rolled-back" if cheat in ("rolled back", "withheld") else "checkpoint-invalid"
    assert world.codes[0] == expected
