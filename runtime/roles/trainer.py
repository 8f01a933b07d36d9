"""The trainer role: reads its part of the data, trains, and meets the others at the parameter server.

Trainer 0 leads (`chiron.runtime.roles.leader`). What it does besides comes in by a few hooks.

A paced trainer works in slots (`chiron.runtime.pacing`). Whatever the engine has a hand in happens within
one, and nothing that the host sees follows until its end: then come the report on the exchange before, the
checkpoint, and the change. The answer to it begins the next slot. An engine that is not done when slot and
budget are over costs the trainer this exchange: its change is zeros, and it goes on with the vector of the
slot that begins once the engine is free.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress

import numpy as np

from chiron.ps.client import Merged, Start
from chiron.ps.errors import TrialOver
from chiron.ps.sharding import ShardedClient
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.membership import Membership, join
from chiron.runtime.channels.shards import ShardLink, connect_to_shards
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.engine.supply import Engines
from chiron.runtime.pacing import (
    RUNGS,
    Slots,
    ending_s,
    late_slots_of,
    making_ready_s,
    raised_for,
    reading_s,
    rung_for,
    slot_s,
)
from chiron.runtime.roles.measuring import Needed, measure
from chiron.runtime.roles.plan import Plan, decode_plan
from chiron.runtime.roles.public_failure import failing_publicly
from chiron.runtime.roles.slotted_reads import SlottedReads
from chiron.runtime.roles.trainer_checkpoint import SavedTrainer, TrainerCheckpoint, rolled_back
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.jobs import GIVEN_UP, LATE, SUMS, exchanges_of, plan_bytes
from chiron.wire.labels import TRAINER_CHECKPOINT
from chiron.wire.launch import LaunchSpec


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Take part in one job from enrolment to its end."""
    await take_part(Trainer, launch, platform)


async def take_part(kind: type["Trainer"], launch: LaunchSpec, platform: Platform) -> None:
    """Enrol, and run a trainer of this kind to its job's end."""
    engines, measuring = Engines(), Engines()
    # They take a while to start: meanwhile we enrol.
    engines.start_ahead()
    if not launch.spec.exchange.unpaced:
        measuring.start_ahead()
    try:
        await _take_part(kind, launch, platform, engines, measuring)
    finally:
        engines.end()
        measuring.end()


async def _take_part(
    kind: type["Trainer"], launch: LaunchSpec, platform: Platform, engines: Engines, measuring: Engines
) -> None:
    async with GatewayClient(launch.gateway) as gateway, failing_publicly(gateway):
        peer = await gateway.parameter_server()
        async with join(peer, launch, platform, gateway.parameter_server) as membership:
            shards = await connect_to_shards(membership, gateway.shard)
            trainer = kind(launch, membership, shards, gateway, platform, engines, measuring)
            try:
                await trainer.run()
            finally:
                trainer.abandon()


class Trainer:
    """One trainer's share of one job."""

    def __init__(
        self,
        launch: LaunchSpec,
        membership: Membership,
        shards: Sequence[ShardLink],
        gateway: GatewayClient,
        platform: Platform,
        engines: Engines,
        measuring: Engines,
    ) -> None:
        """`measuring` are the engines that plans are measured with."""
        ticket = membership.ticket
        self._engines, self._measuring = engines, measuring
        self._index = launch.index
        # The ticket's spec is the one that the owner granted for; the host's is only hearsay.
        self._spec = spec = ticket.spec
        self._client = ShardedClient(
            [membership.session, *(shard.session for shard in shards)],
            [membership.url, *(shard.url for shard in shards)],
            spec.exchange,
            plan_bytes(spec),
            sums=SUMS,
            reconnects=[membership.reconnect, *(shard.connect for shard in shards)],
        )
        manifest = spec.dataset

        async def fetch(number: int) -> bytes:
            return await gateway.chunk(manifest.dataset_id, number, manifest.chunk_ciphertext_bytes)

        self._fetch, self._dataset_key = fetch, ticket.dataset_key
        sealer = Sealer(platform, TRAINER_CHECKPOINT, ticket.share, machines=ticket.machines)
        self._checkpoint = TrainerCheckpoint(ticket, launch.index, self._client, sealer, gateway)
        self._saved: SavedTrainer | None = None
        """What a crashed predecessor has left, until the trial that it is of is taken up."""
        self._slots = Slots(late_slots_of(spec, launch.index), paced=not spec.exchange.unpaced)
        self._rung: int | None = None
        """The job's, once the trainers have agreed."""
        self._raised = False
        self._needed = Needed()
        self._given_up = 0
        """Exchanges that we had nothing to give to."""
        self._working: asyncio.Task[None] | None = None
        """What the engine has a hand in."""
        self._content: tuple[int, bytearray] | None = None
        """The checkpoint before the exchange of this number."""
        self._outcomes: list[tuple[int, Merged]] = []
        """Numbers and outcomes of exchanges that the engine has not taken up yet."""

    async def run(self) -> None:
        """Take part in every trial, from where a crashed predecessor stood."""
        await self._load()
        await self._run_trials(self._saved.trial if self._saved else 0)

    def abandon(self) -> None:
        """Wait for the engine no more."""
        if self._working is not None:
            self._working.cancel()

    async def _load(self) -> None:
        self._saved = await self._checkpoint.load()
        if self._saved is not None:
            self._slots.take(self._saved.late)
            self._given_up = self._saved.given_up

    async def _run_trials(self, first: int) -> None:
        for trial in range(first, self._spec.trials):
            # A trainer that came late, in a crashed one's place, may find the others in a later trial.
            with suppress(TrialOver):
                await self._run_trial(trial)
            if trial + 1 < self._spec.trials:
                await self._run.close()
                self._engines.start_ahead()

    async def _run_trial(self, trial: int) -> None:
        """Take part in a trial to its end.

        Raises:
            TrialOver: the others are in a later one.
        """
        saved, self._saved = self._saved, None
        if saved is not None and saved.trial != trial:
            saved = None
        if saved is not None:
            # The greeting then tells the server what we have seen: it may be the one that was rolled back.
            self._client.resume(trial, saved.exchange)
        self._begin_run(trial)
        start = await self._open_trial(trial, resumed=saved is not None)
        await self._make_ready(trial, start, saved)
        first = await self._first_exchange(trial, start, saved)
        del saved  # It is large.
        for number in range(first, exchanges_of(self._spec, trial).stop):
            ready = await self._work(number)
            await self._say(number)
            await self._exchange(number, ready=ready)
        await self._end_trial(trial)

    def _begin_run(self, trial: int, failure: str = "no-plan") -> None:
        """Stand at a trial's begin, without a plan. An engine that is still at work keeps the run it has."""
        self.abandon()
        self._working, self._content = None, None
        self._outcomes.clear()
        self._run = TrialRun(self._spec, trial, self._index, self._engines)
        self._run.failure = failure
        self._reads = SlottedReads(self._spec, self._index, self._fetch)
        self._dataset = EncryptedDataset(self._spec.dataset, self._dataset_key, self._reads.serve)

    async def _open_trial(self, trial: int, *, resumed: bool) -> Start:
        """Wait for a trial. `resumed`: there is a checkpoint of it. A leading trainer opens it for all."""
        return await self._client.start(trial)

    async def _plan_of(self, trial: int, start: Start) -> Plan | None:
        """A trial's plan. A leading trainer has made it."""
        return decode_plan(self._spec, trial, start.plan)

    async def _make_ready(self, trial: int, start: Start, saved: SavedTrainer | None) -> None:
        """Bring the run to where the trial is, in a slot; and agree on the length of those that follow."""
        self._needed = Needed()
        self._slots.begin()
        taking_up = self._take_up(trial, start, saved)
        refusal = None
        if not await self._in_slot(taking_up, making_ready_s(self._spec)):
            self._needed, refusal = Needed(), "making-ready-late"
        if not self._spec.exchange.unpaced:
            proposed = self._proposed()
            agreed = await self._client.agree(trial, proposed)
            self._rung, self._raised = agreed.rung, agreed.raised
            if agreed.rung >= proposed:
                # Else the others had agreed before: we take a crashed one's place, for whom there was room.
                refusal = refusal or self._needed.refusal(self._spec, agreed.rung)
        if refusal is not None:
            given_up = self._run
            self._begin_run(trial, refusal)
            await given_up.close()
            await self._run.adopt(start.vector)

    def _proposed(self) -> int:
        """The rung that we need, or the highest that we could have."""
        if self._rung is None:
            rung = rung_for(self._spec, self._needed.slot_s)
            return RUNGS - 1 if rung is None else rung
        return self._rung if self._raised else raised_for(self._spec, self._rung, self._needed.slot_s)

    async def _in_slot(self, work: Coroutine[None, None, None], length_s: float) -> bool:
        """Let this be done in a slot of its own; whether it was done in time."""
        self._working = asyncio.ensure_future(work)
        done = await self._slots.end(self._working, length_s)
        if done:
            self._working.result()
        return done

    async def _take_up(self, trial: int, start: Start, saved: SavedTrainer | None) -> None:
        """Bring the run to where the trial is. At its begin, the plan is measured."""
        run, plan = self._run, await self._plan_of(trial, start)
        begins = start.exchange == exchanges_of(self._spec, trial).start
        if plan is not None and begins and not self._spec.exchange.unpaced:
            self._needed = await measure(self._measuring, self._spec, plan, trial, self._index, start.vector)
        if saved is not None and _follows(start, saved):
            self._checkpoint.fill_client(saved)
            await run.adopt(self._client.resume(trial, saved.exchange))
            if saved.learner or saved.failure is not None or plan is None:
                await run.restore(plan, saved.failure, saved.learner)
                return
            # The engine was at work when the checkpoint was due: only the vector is left.
        if plan is not None and not run.begun:
            await run.begin(plan, from_start=False)
        await run.adopt(start.vector)

    async def _first_exchange(self, trial: int, start: Start, saved: SavedTrainer | None) -> int:
        """The number of the exchange that the run goes on with.

        Raises:
            InputCorrupted: the host served an old checkpoint, or none although we had stored one.
        """
        if saved is not None and _follows(start, saved):
            return saved.exchange
        if start.exchange > exchanges_of(self._spec, trial).start or saved is not None:
            if self._checkpoint.kept and not self._spec.exchange.deadline_s:
                raise rolled_back()
            # The others went on without us, or our moments are nobody's loss. The last result may not be
            # reported yet: ask for it again.
            await self._exchange(start.exchange - 1, ready=True, again=True)
        return start.exchange

    async def _work(self, number: int) -> bool:
        """What is due before an exchange, in one slot, or of streamed data in one a window.

        Returns:
            Whether the run has something to give. The engine may not be done, or may not have been free.
        """
        first, length = exchanges_of(self._spec, self._run.trial).start, slot_s(self._spec, self._rung or 0)
        if self._reads.due(number - first):
            length += reading_s(self._spec)
        working = self._working
        free = working is None or working.done()
        await self._reads.fetch_group(keep=free)
        self._slots.begin()
        if working is None or free:
            working = self._working = asyncio.create_task(self._advance(self._run, number))
        while self._reads.more:
            reading = asyncio.create_task(self._caught_up(working))
            free = free and await self._slots.end(reading, length)
            reading.cancel()
            await self._reads.fetch_group(keep=free and not working.done())
            self._slots.begin()
        done = await self._slots.end(working, length)
        if done:
            working.result()
        return done and free

    async def _caught_up(self, working: asyncio.Task[None]) -> None:
        """Wait until the engine has asked for what was fetched, or will not any more."""
        taken = asyncio.create_task(self._reads.taken())
        try:
            await asyncio.wait({taken, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taken.cancel()

    async def _advance(self, run: TrialRun, number: int) -> None:
        """Take up what the exchanges made, and take the steps due before the next."""
        numbers = exchanges_of(self._spec, run.trial)
        await self._take(run)
        if self._checkpoint.kept:
            self._content = number, await self._snapshot(number, run)
        await run.train(self._dataset, number - numbers.start, len(numbers))

    async def _take(self, run: TrialRun) -> None:
        outcomes, self._outcomes = self._outcomes, []
        for number, merged in outcomes:
            await run.take(number, merged)

    async def _say(self, number: int) -> None:
        """What goes out at a slot's end before the change: the state that its work began with, sealed."""
        if not self._checkpoint.kept:
            return
        of, content = self._content or (-1, bytearray())
        self._content = None
        if of != number:
            # The engine is at work. Who takes our place then goes on from the vector alone.
            content = await self._snapshot(number, None)
        await self._checkpoint.store(content)

    async def _snapshot(self, number: int, run: TrialRun | None) -> bytearray:
        return await self._checkpoint.snapshot(
            number, self._run.trial, run, late=self._slots.late, given_up=self._given_up
        )

    async def _exchange(self, number: int, *, ready: bool, again: bool = False) -> None:
        vector, sums = self._run.pushed() if ready else (None, np.zeros(SUMS))
        self._given_up += not ready
        sums[LATE], sums[GIVEN_UP] = self._slots.late, self._given_up
        merged = await self._client.exchange(number, vector, sums)
        if again and merged.exchange > number:
            # The first shard is ahead of another. Its sums are those of the exchange that we make next.
            return
        self._outcomes.append((number, merged))
        self._after_exchange(number, merged)

    def _after_exchange(self, number: int, merged: Merged) -> None:
        """Whatever follows an exchange: nothing, but for a leading trainer."""

    async def _end_trial(self, trial: int) -> bool:
        """Take up what the last exchange made, in a slot of its own; whether that was done in time."""
        self._slots.begin()
        return await self._in_slot(
            self._finish(self._run, self._working), ending_s(self._spec, self._rung or 0)
        )

    async def _finish(self, run: TrialRun, working: asyncio.Task[None] | None) -> None:
        if working is not None:
            await working
        await self._take(run)


def _follows(start: Start, saved: SavedTrainer) -> bool:
    """Whether the server is where a checkpoint of ours that is not an old one leaves off."""
    return saved.exchange <= start.exchange <= saved.exchange + 1
