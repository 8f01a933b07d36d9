"""An engine that is late, however late: the host sees a few whole slots, and the job goes on without it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from chiron.api.software_tee.tee import SoftwareTee
from chiron.runtime.pacing import MOST_LATE_SLOTS
from chiron.runtime.roles import trainer
from chiron.wire.jobs import JobSpec
from chiron.wire.reports import OutcomeStatus
from scripts.benchmarks.in_process import LocalEngines, LocalLearner
from tests.support import builders
from tests.support.datasets import digits
from tests.traffic.comparing import difference
from tests.traffic.world import View, host_in

EXCHANGES, LATE_AT, LATE_S = 8, 2, 3.0
REQUEST: dict[str, Any] = {"trainers": 2, "exchanges": EXCHANGES, "terms": {"unpaced": False}}


class LateLearner(LocalLearner):
    """The second trainer's, which is busy for seconds before one exchange of the real job."""

    async def start(self, exchange: int, exchanges: int) -> None:
        """Begin the steps before an exchange."""
        self._is_late = (self._index, exchange, exchanges) == (1, LATE_AT, EXCHANGES)
        await super().start(exchange, exchanges)

    async def finish(self) -> None:
        """End them."""
        await super().finish()
        if self._is_late:
            await asyncio.sleep(LATE_S)


class Engines(LocalEngines):
    """As a trainer makes them."""

    kind = LocalLearner

    def start_ahead(self) -> None:
        """There is nothing to start."""

    def end(self) -> None:
        """There is nothing to end."""

    async def learner(self, spec: JobSpec, *, index: int, trial: int) -> LocalLearner:
        """A fresh learner."""
        return self.kind(spec, index, trial)


class LateEngines(Engines):
    """One is late."""

    kind = LateLearner


def run(tee: SoftwareTee, directory: Path) -> View:
    directory.mkdir()

    async def job() -> View:
        async with asyncio.timeout(120), host_in(directory, tee) as host:
            return await host.run(*digits(), builders.orderly(), **REQUEST)

    return asyncio.run(job())


def test_a_late_engine_costs_the_trainer_exchanges_and_the_host_sees_the_usual_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not pytest's directory: its paths are too long for Unix sockets.
    with TemporaryDirectory(prefix="chiron-") as made:
        tee = SoftwareTee.open(Path(made, "tee"), datetime.now(UTC))
        monkeypatch.setattr(trainer, "Engines", Engines)
        usual = run(tee, Path(made, "1"))
        monkeypatch.setattr(trainer, "Engines", LateEngines)
        late = run(tee, Path(made, "2"))
    assert difference(usual, late) is None
    assert late.outcome.status is OutcomeStatus.TRAINED
    told = late.outcome.metrics
    assert told is not None
    assert 2 <= told.late_slots <= MOST_LATE_SLOTS
    assert 1 <= told.given_up < EXCHANGES
