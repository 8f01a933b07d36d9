"""The trainer role: reads its part of the data, trains, and meets the others at the parameter server.

Trainer 0 leads (`chiron.runtime.roles.leader`). What it does besides comes in by two hooks: how a trial
opens, and what follows an exchange.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from chiron.ps.client import Start
from chiron.ps.errors import TrialOver
from chiron.ps.sharding import ShardedClient
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.membership import Membership, join
from chiron.runtime.channels.shards import ShardLink, connect_to_shards
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.engine.supply import Engines
from chiron.runtime.roles.plan import Plan, decode_plan
from chiron.runtime.roles.public_failure import failing_publicly
from chiron.runtime.roles.trainer_checkpoint import SavedTrainer, TrainerCheckpoint, rolled_back
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.sealing.sealer import Sealer
from chiron.runtime.training.partition import is_streamed
from chiron.wire.jobs import SUMS, exchanges_of, plan_bytes
from chiron.wire.labels import TRAINER_CHECKPOINT
from chiron.wire.launch import LaunchSpec


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Take part in one job from enrolment to its end."""
    await take_part(Trainer, launch, platform)


async def take_part(kind: type["Trainer"], launch: LaunchSpec, platform: Platform) -> None:
    """Enrol, and run a trainer of this kind to its job's end."""
    engines = Engines()
    # It takes a while to start: meanwhile we enrol.
    engines.start_ahead()
    try:
        await _take_part(kind, launch, platform, engines)
    finally:
        engines.end()


async def _take_part(kind: type["Trainer"], launch: LaunchSpec, platform: Platform, engines: Engines) -> None:
    async with GatewayClient(launch.gateway) as gateway, failing_publicly(gateway):
        peer = await gateway.parameter_server()
        async with join(peer, launch, platform, gateway.parameter_server) as membership:
            shards = await connect_to_shards(membership, gateway.shard)
            await kind(launch, membership, shards, gateway, platform, engines).run()


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
    ) -> None:
        ticket = membership.ticket
        self._engines = engines
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

        self._dataset = EncryptedDataset(manifest, ticket.dataset_key, fetch)
        sealer = Sealer(platform, TRAINER_CHECKPOINT, ticket.share, machines=ticket.machines)
        self._checkpoint = TrainerCheckpoint(ticket, launch.index, self._client, sealer, gateway)
        self._saved: SavedTrainer | None = None
        """What a crashed predecessor has left, until the trial that it is of is taken up."""

    async def run(self) -> None:
        """Take part in every trial, from where a crashed predecessor stood."""
        self._saved = await self._checkpoint.load()
        await self._run_trials(self._saved.trial if self._saved else 0)

    async def _run_trials(self, first: int) -> None:
        for trial in range(first, self._spec.trials):
            # A trainer that came late, in a crashed one's place, may find the others in a later trial.
            with suppress(TrialOver):
                run = await self._run_trial(trial)
                await run.close()
            if trial + 1 < self._spec.trials:
                self._engines.start_ahead()

    async def _run_trial(self, trial: int) -> TrialRun:
        """Take part in a trial to its end.

        Raises:
            TrialOver: the others are in a later one.
        """
        run = TrialRun(self._spec, trial, self._index, self._engines)
        saved, self._saved = self._saved, None
        if saved is not None and saved.trial != trial:
            saved = None
        if saved is not None:
            # The greeting then tells the server what we have seen: it may be the one that was rolled back.
            self._client.resume(trial, saved.exchange)
        start, plan = await self._open_trial(run, resumed=saved is not None)
        first = await self._take_up(run, start, plan, saved)
        del saved  # It is large.
        for number in range(first, exchanges_of(self._spec, trial).stop):
            await self._work(run, number)
            await self._exchange(run, number)
        return run

    async def _open_trial(self, run: TrialRun, *, resumed: bool) -> tuple[Start, Plan | None]:
        """Wait for a trial; where it stands, and its plan. `resumed`: there is a checkpoint of it.

        A leading trainer opens it for all.
        """
        start = await self._client.start(run.trial)
        return start, decode_plan(self._spec, run.trial, start.plan)

    async def _after_exchange(self, run: TrialRun) -> None:
        """Whatever follows an exchange: nothing, but for a leading trainer."""

    async def _take_up(
        self, run: TrialRun, start: Start, plan: Plan | None, saved: SavedTrainer | None
    ) -> int:
        """Bring the run to where the trial is; the number of the exchange that it goes on with.

        Raises:
            InputCorrupted: the host served an old checkpoint, or none although we had stored one.
        """
        if saved is not None and saved.exchange <= start.exchange <= saved.exchange + 1:
            self._checkpoint.fill_client(saved)
            await run.adopt(self._client.resume(run.trial, saved.exchange))
            await run.restore(plan, saved.failure, saved.learner)
            return saved.exchange
        if plan is not None and not run.begun:
            await run.begin(plan, from_start=False)
        await run.adopt(start.vector)
        if start.exchange > exchanges_of(self._spec, run.trial).start or saved is not None:
            if self._checkpoint.kept and not self._spec.exchange.deadline_s:
                raise rolled_back()
            # The others went on without us, or our moments are nobody's loss. The last result may not be
            # reported yet: ask for it again.
            await self._exchange(run, start.exchange - 1, again=True)
        return start.exchange

    async def _work(self, run: TrialRun, number: int) -> None:
        """The steps due before an exchange. The state that they begin with is stored before this returns.

        Meanwhile, or before where chunks are read too: in which order the host sees both is fixed.
        """
        numbers = exchanges_of(self._spec, run.trial)
        content = await self._checkpoint.snapshot(number, run) if self._checkpoint.kept else None
        async with asyncio.TaskGroup() as tasks:
            if content is not None:
                storing = tasks.create_task(self._checkpoint.store(content))
                del content
                if not run.has_read or is_streamed(self._spec):
                    await storing
            await run.train(self._dataset, number - numbers.start, len(numbers))

    async def _exchange(self, run: TrialRun, number: int, *, again: bool = False) -> None:
        merged = await self._client.exchange(number, *run.pushed())
        if again and merged.exchange > number:
            # The first shard is ahead of another. Its sums are those of the exchange that we make next.
            return
        await run.take(number, merged)
        await self._after_exchange(run)
