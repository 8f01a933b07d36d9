"""The trainer role: reads its part of the data, trains, and meets the others at the parameter server.

Trainer 0 leads: it runs the builder, reports to the owner, and seals what the job made.
"""

import asyncio
from collections.abc import Sequence

from chiron.ps.client import Start
from chiron.ps.errors import TrialOver
from chiron.ps.sharding import ShardedClient
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.channels.membership import Membership, join
from chiron.runtime.channels.shards import ShardLink, links
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.roles.attempt import Attempt
from chiron.runtime.roles.lead import Lead
from chiron.runtime.roles.plan import Plan, decode_plan
from chiron.runtime.roles.public_end import failing_publicly
from chiron.runtime.roles.trainer_checkpoint import SavedTrainer, TrainerCheckpoint, rolled_back
from chiron.runtime.sealing.sealer import Sealer
from chiron.runtime.training.partition import is_streamed
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wire.labels import TRAINER_CHECKPOINT
from chiron.wire.launch import LaunchSpec
from chiron.wire.schedule import SUMS, exchanges_of, plan_bytes


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Take part in one job from enrolment to its end."""
    async with GatewayClient(launch.gateway) as gateway, failing_publicly(gateway):
        peer = await gateway.parameter_server()
        async with join(peer, launch, platform, gateway.parameter_server) as membership:
            shards = await links(membership, gateway.shard)
            await _Trainer(launch, membership, shards, gateway, platform).run()


class _Trainer:
    def __init__(
        self,
        launch: LaunchSpec,
        membership: Membership,
        shards: Sequence[ShardLink],
        gateway: GatewayClient,
        platform: Platform,
    ) -> None:
        ticket = membership.ticket
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
        self._saved: SavedTrainer | None = None
        sealer = Sealer(platform, TRAINER_CHECKPOINT)
        self._checkpoint = TrainerCheckpoint(ticket, launch.index, self._client, sealer, gateway)
        # Occlum gives an enclave few threads; the development TEE has all of the machine's.
        limits = SandboxLimits(parallel_compilation=launch.platform.kind == "software")
        self._lead = Lead(membership, gateway, platform, limits) if launch.index == 0 else None

    async def run(self) -> None:
        self._saved = await self._checkpoint.load()
        first = self._saved.trial if self._saved else 0
        if self._lead:
            await self._lead.prepare(self._dataset)
            if self._saved and not self._lead.remembers(first):
                raise rolled_back()
            first = self._lead.trial
        for trial in range(first, self._spec.trials):
            try:
                await self._trial(trial)
            except TrialOver as error:
                # We came late, in a crashed trainer's place, and the others are in a later trial.
                if self._lead:
                    raise rolled_back() from error
        if self._lead:
            await self._lead.conclude()

    async def _trial(self, trial: int) -> None:
        attempt = Attempt(self._spec, trial, self._index)
        saved, self._saved = self._saved, None
        if saved is not None and saved.trial != trial:
            saved = None
        if saved is not None:
            # The greeting then tells the server what we have seen: it may be the one that was rolled back.
            self._client.resume(trial, saved.exchange)
        elif self._lead:
            published = await self._lead.propose(attempt, trial)
            await self._client.publish(trial, published, attempt.pushed()[0])
        start = await self._client.start(trial)
        numbers = exchanges_of(self._spec, trial)
        first = await self._take_up(attempt, trial, start, saved)
        for number in range(first, numbers.stop):
            await self._work(attempt, trial, number)
            await self._exchange(attempt, number)
        if self._lead:
            await self._lead.weigh(attempt, trial)

    async def _take_up(self, attempt: Attempt, trial: int, start: Start, saved: SavedTrainer | None) -> int:
        """Bring the attempt to where the trial is; the number of the exchange that it goes on with.

        Raises:
            InputCorrupted: the host served an old checkpoint, or none although we had stored one.
        """
        plan = await self._plan(trial, start)
        first = exchanges_of(self._spec, trial).start
        if saved is not None and saved.exchange <= start.exchange <= saved.exchange + 1:
            self._checkpoint.fill_client(saved)
            await attempt.adopt(self._client.resume(trial, saved.exchange))
            await attempt.restore(plan, saved.failure, saved.learner)
            return saved.exchange
        if plan is not None and not (self._lead and saved is None):
            await attempt.begin(plan, from_start=False)
        await attempt.adopt(start.vector)
        if start.exchange > first or saved is not None:
            if self._checkpoint.kept and not self._spec.exchange.deadline_s:
                raise rolled_back()
            # The others went on without us, or our moments are nobody's loss. The last result may not be
            # reported yet: ask for it again.
            await self._exchange(attempt, start.exchange - 1, again=True)
        return start.exchange

    async def _plan(self, trial: int, start: Start) -> Plan | None:
        if self._lead:
            return self._lead.plan
        return await asyncio.to_thread(decode_plan, self._spec, trial, start.plan)

    async def _work(self, attempt: Attempt, trial: int, number: int) -> None:
        """The steps due before an exchange. The state that they begin with is stored before this returns.

        Meanwhile, or before where chunks are read too: in which order the host sees both is fixed.
        """
        numbers = exchanges_of(self._spec, trial)
        content = await self._checkpoint.snapshot(trial, number, attempt) if self._checkpoint.kept else None
        async with asyncio.TaskGroup() as tasks:
            if content is not None:
                storing = tasks.create_task(self._checkpoint.store(content))
                del content
                if not attempt.has_read or is_streamed(self._spec):
                    await storing
            await attempt.train(self._dataset, number - numbers.start, len(numbers))

    async def _exchange(self, attempt: Attempt, number: int, *, again: bool = False) -> None:
        merged = await self._client.exchange(number, *attempt.pushed())
        if again and merged.exchange > number:
            # The first shard is ahead of another. Its sums are those of the exchange that we make next.
            return
        await attempt.take(number, merged)
        if self._lead:
            await self._lead.report(attempt)
