"""The trainer role: reads its part of the data, trains, and meets the others at the parameter server.

Trainer 0 leads: it runs the builder, reports to the owner, and seals what the job made.
"""

import asyncio

from ps.client import ParameterClient
from ps.errors import TrialOver
from runtime.attestation.platform import Platform
from runtime.channels.gateway import GatewayClient
from runtime.channels.parameter_server import Membership, join
from runtime.datasets import EncryptedDataset
from runtime.roles.attempt import Attempt
from runtime.roles.lead import Lead
from runtime.roles.plan import decode_plan
from runtime.roles.public_end import failing_publicly
from runtime.schedule import SUMS, exchanges_of, plan_bytes
from runtime.wire.launch import LaunchSpec
from wasm_sandbox.limits import SandboxLimits


async def run(launch: LaunchSpec, platform: Platform) -> None:
    """Take part in one job from enrolment to its end."""
    async with GatewayClient(launch.gateway) as gateway, failing_publicly(gateway):
        peer = await gateway.parameter_server()
        async with join(peer, launch, platform, gateway.parameter_server) as membership:
            await _Trainer(launch, membership, gateway, platform).run()


class _Trainer:
    def __init__(
        self, launch: LaunchSpec, membership: Membership, gateway: GatewayClient, platform: Platform
    ) -> None:
        ticket = membership.ticket
        self._index = launch.index
        # The ticket's spec is the one that the owner granted for; the host's is only hearsay.
        self._spec = spec = ticket.spec
        self._client = ParameterClient(
            membership.session,
            membership.url,
            spec.exchange,
            plan_bytes(spec),
            sums=SUMS,
            reconnect=membership.reconnect,
        )
        manifest = spec.dataset

        async def fetch(number: int) -> bytes:
            return await gateway.chunk(manifest.dataset_id, number, manifest.chunk_ciphertext_bytes)

        self._dataset = EncryptedDataset(manifest, ticket.dataset_key, fetch)
        # Occlum gives an enclave few threads; the development TEE has all of the machine's.
        limits = SandboxLimits(parallel_compilation=launch.platform.kind == "software")
        self._lead = Lead(membership, gateway, platform, limits) if launch.index == 0 else None

    async def run(self) -> None:
        if self._lead:
            await self._lead.prepare(self._dataset)
        for trial in range(self._spec.trials):
            try:
                await self._trial(trial)
            except TrialOver:
                # We came late, in a crashed trainer's place, and the others are in a later trial.
                if self._lead:
                    raise
        if self._lead:
            await self._lead.conclude()

    async def _trial(self, trial: int) -> None:
        attempt = Attempt(self._spec, trial, self._index)
        if self._lead:
            published = await self._lead.propose(attempt, trial)
            await self._client.publish(trial, published, attempt.pushed()[0])
        start = await self._client.start(trial)
        if not self._lead:
            plan = await asyncio.to_thread(decode_plan, self._spec, trial, start.plan)
            if plan is not None:
                await attempt.begin(plan)
        await attempt.adopt(start.vector)
        numbers = exchanges_of(self._spec, trial)
        if start.exchange > numbers.start:
            # In a crashed trainer's place: ask again for the last result, which nobody may have reported.
            await self._exchange(attempt, start.exchange - 1)
        for number in range(start.exchange, numbers.stop):
            await attempt.train(self._dataset, number - numbers.start, len(numbers))
            await self._exchange(attempt, number)
        if self._lead:
            await self._lead.weigh(attempt, trial)

    async def _exchange(self, attempt: Attempt, number: int) -> None:
        merged = await self._client.exchange(number, *attempt.pushed())
        await attempt.take(number, merged)
        if self._lead:
            await self._lead.report(attempt)
