"""The parameter server: one job's shared vector and its trials (`chiron.ps.routes` serves it).

Trainer 0 publishes each trial's plan and initial vector; every trainer starts from them and then exchanges.
All a trainer can do is read the shared vector and push its own change: who it is comes from its TLS client
certificate, through `identify`. Nothing the host sees depends on what is in a vector.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chiron.ps.asynchronous import Asynchronous
from chiron.ps.barrier import Barrier
from chiron.ps.codec import Header, Hello, Kind, Layout, common_version
from chiron.ps.errors import ExchangeRefused, RolledBack, ServerFailed, TrialOver
from chiron.ps.exchange import Entry, Exchange, Persist, Result
from chiron.ps.merging import SharedVector
from chiron.ps.streams import Body
from chiron.ps.vectors import as_bytes
from chiron.wire import codes
from chiron.wire.exchange import ExchangeMode, ExchangeSpec, spec_digest

PUBLISHER = 0
"""The trainer that runs the builder and publishes what all start from."""
HIGHEST_RUNG = 2**16 - 1


@dataclass(frozen=True)
class Agreement:
    """What the trainers have agreed on for their slots."""

    trial: int = -1
    """The latest trial that they agreed for; -1 before the first."""
    rung: int = 0
    """Place on the ladder."""
    raised: bool = False

    def after(self, trial: int, rung: int) -> "Agreement":
        """What it becomes by the highest rung that is proposed for a trial."""
        if self.trial < 0:
            return Agreement(trial, rung)
        if self.raised or rung <= self.rung:
            return replace(self, trial=trial)
        return Agreement(trial, rung, raised=True)


class ParameterServer:
    """The state of one job's exchange, or of one shard of it."""

    def __init__(
        self,
        spec: ExchangeSpec,
        plan_bytes: int,
        *,
        sums: int = 64,
        weights: Sequence[float] | None = None,
        persist: Persist | None = None,
    ) -> None:
        """`weights`, one a trainer, are public: each trainer's share of the data. Equal by default.

        Must be made in a running event loop.
        """
        weights = [1.0] * spec.trainers if weights is None else list(weights)
        if len(weights) != spec.trainers or min(weights) < 0 or max(weights) <= 0:
            raise ValueError("one weight a trainer, none negative, not all zero")
        self.layout = Layout.of(spec, plan_bytes, sums)
        self.shared = SharedVector(spec)
        self._digest = spec_digest(spec, plan_bytes, sums)
        self._keep = persist or _nothing
        kind = Asynchronous if spec.mode is ExchangeMode.ASYNC else Barrier
        self.exchange: Exchange = kind(spec, self.layout, self.shared, weights, self._persist)
        self.trial = -1
        """The trial that is under way; -1 before the first is published."""
        self.plan = b""
        self.rolled_back = asyncio.Event()
        """Set once a client has shown that the host restored us from an old checkpoint."""
        self.slots = Agreement()
        self._proposed: dict[int, int] = {}
        self._agreed = asyncio.Condition()
        self._trainers, self._patience_s = spec.trainers, spec.deadline_s or None
        self._publishing = asyncio.Lock()
        self._published = asyncio.Condition()

    async def _persist(self) -> None:
        try:
            await self._keep()
        except Exception as error:
            raise ServerFailed("server-failed", "the server could not keep its state") from error

    def hello(self, trainer: int, hello: Hello) -> Header:
        """Agree on a version with a client that was told the same spec.

        Raises:
            FrameInvalid: no version in common.
            ExchangeRefused: the client was told another spec.
            RolledBack: the client has seen more than we know of, so our checkpoint was not the last.
        """
        version = common_version(hello)
        if hello.spec_digest != self._digest:
            raise ExchangeRefused("spec-mismatch", "the trainer was told another exchange spec")
        if hello.trial > self.trial or not self.exchange.knows(trainer, hello.merged):
            self.rolled_back.set()
            raise RolledBack(
                codes.CHECKPOINT_ROLLED_BACK, "the trainers know of later exchanges than the server"
            )
        return Header(Kind.WELCOME, version=version)

    async def completed(self, exchanges: int) -> None:
        """Wait until that many exchanges of the job are merged."""
        await self.exchange.reached(exchanges)

    async def publish(self, trainer: int, header: Header, plan: bytes, body: Body) -> Header:
        """Take the plan and initial vector of the next trial; publishing the present one again is a no-op.

        Raises:
            ExchangeRefused: not the publisher, or not the trial that is next.
        """
        if trainer != PUBLISHER:
            raise ExchangeRefused("publish-forbidden", "only the leading trainer publishes")
        async with self._publishing:
            if header.trial == self.trial:
                await body.drain()
            elif header.trial == self.trial + 1:
                await self._take(header.trial, plan, body)
            else:
                raise ExchangeRefused("publish-out-of-order", "trials are published one after the other")
        return self.layout.header(Kind.PUBLISHED, trial=header.trial)

    async def _take(self, trial: int, plan: bytes, body: Body) -> None:
        await self.exchange.settled()
        await body.into(as_bytes(self.shared.spare))
        async with self._published:
            self.shared.staged = True
            self.plan, self.trial = plan, trial
            await self._persist()
            self._published.notify_all()

    async def start(self, trainer: int, trial: int) -> tuple[Header, Entry]:
        """Wait for `trial` to be published; the vector as it is now, and the number of the exchange due next.

        Raises:
            TrialOver: a later trial is under way.
        """
        async with self._published:
            await self._published.wait_for(lambda: self.trial >= trial)
        if self.trial > trial:
            raise TrialOver(codes.TRIAL_OVER, "a later trial is under way")
        entry = await self.exchange.enter(trainer)
        header = self.layout.header(
            Kind.STARTED, trial=trial, exchange=entry.exchange, plan_length=len(self.plan)
        )
        return header, entry

    async def agree(self, trainer: int, trial: int, rung: int) -> Header:
        """Wait until every trainer has proposed a rung for this trial; the highest is taken.

        After the first time it can only be raised, and only once a job. Whoever comes later is told it. With
        a deadline, those who are late to propose are not waited for.

        Raises:
            ExchangeRefused: the trial is not published.
        """
        if trial > self.trial:
            raise ExchangeRefused("exchange-ahead", "the trial is not published")
        async with self._agreed:
            if trial > self.slots.trial:
                self._proposed[trainer] = min(rung, HIGHEST_RUNG)
                self._agreed.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s):
                    await self._agreed.wait_for(lambda: self._have_proposed(trial))
            if trial > self.slots.trial:
                self.slots = self.slots.after(trial, max(self._proposed.values()))
                self._proposed.clear()
                await self._persist()
                self._agreed.notify_all()
        raised = int(self.slots.raised)
        return self.layout.header(Kind.AGREED, trial=trial, exchange=self.slots.rung, excluded=raised)

    def _have_proposed(self, trial: int) -> bool:
        return trial <= self.slots.trial or len(self._proposed) == self._trainers

    async def push(self, trainer: int, header: Header, sums: NDArray[np.float64], body: Body) -> Result:
        """Take a trainer's change and answer the vector that it goes on with.

        Raises:
            ExchangeRefused: the exchange or trial lies in the future.
            TrialOver: the trial ended without this trainer.
        """
        if header.trial > self.trial:
            raise ExchangeRefused("exchange-ahead", "the trial is not published")
        if header.trial < self.trial and header.exchange >= self.exchange.next:
            raise TrialOver(codes.TRIAL_OVER, "a later trial is under way")
        result = await self.exchange.push(trainer, header, sums, body)
        if result.header.trial != header.trial:
            raise TrialOver(codes.TRIAL_OVER, "a later trial is under way")
        return result


async def _nothing() -> None:
    """The hook of a server that keeps no checkpoints."""
