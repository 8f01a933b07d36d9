"""The job's builder: fetch the component, confine it, and read what it answers."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.datasets.statistics import collect
from chiron.runtime.roles.plan import Plan, read_plan
from chiron.wasm_sandbox.capability_data import CapabilityData
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.sandbox import BuilderOutput, Sandbox
from chiron.wire.contract import Trial


class Builder:
    """Runs one job's builder, once a trial. Only the leading trainer has one."""

    def __init__(self, ticket: Ticket, component: bytes, data: CapabilityData, sandbox: Sandbox) -> None:
        self._ticket = ticket
        self.component = component
        """It may carry pretrained tensors."""
        self._data = data
        self._sandbox = sandbox

    @classmethod
    async def prepare(
        cls, ticket: Ticket, gateway: GatewayClient, dataset: EncryptedDataset, sandbox: Sandbox
    ) -> "Builder":
        """Fetch and compile the component, and collect what the owner granted it to see of the data.

        What is read for that follows from the grant alone, whatever the component will ask for.

        Raises:
            InputCorrupted: the host served another component than the job names.
            DatasetError: the host served another chunk, or the owner sealed a malformed one.
        """
        component = await gateway.builder(ticket.spec.builder_sha256)
        numbers = range(ticket.spec.dataset.chunks)
        data = await collect(dataset, numbers, ticket.capabilities, ticket.spec.seed)
        # What compiling it takes, and whether it compiles, the operator knows as well as we do.
        with suppress(SandboxError):
            await asyncio.to_thread(sandbox.prepare, component)
        return cls(ticket, component, data, sandbox)

    async def plan(self, trial: int, history: Sequence[Trial]) -> Plan | None:
        """The builder's plan for a trial: `build` for the first one, `revise` for later ones.

        None: it has no better idea than the best plan so far.

        Raises:
            SandboxError: the builder failed or may not run, or its answer is no plan of this job.
        """
        raw = await asyncio.to_thread(self._run, trial, history)
        return None if raw is None else read_plan(self._ticket.spec, trial, raw.graph, raw.recipe)

    def _run(self, trial: int, history: Sequence[Trial]) -> BuilderOutput | None:
        request = self._ticket.spec.build_request(trial)
        grants, seed = self._ticket.capabilities, self._ticket.spec.seed
        if trial == 0:
            return self._sandbox.build(self.component, request, grants, self._data, seed=seed)
        return self._sandbox.revise(self.component, request, history, grants, self._data, seed=seed)
