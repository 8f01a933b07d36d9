"""The job's builder: fetch the component, confine it, and admit what it answers."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.datasets.statistics import collect
from chiron.runtime.errors import PeerRefused
from chiron.runtime.roles.plan import AdmittedPlan, admit_plan, decode_plan
from chiron.wasm_sandbox.assets import read_assets
from chiron.wasm_sandbox.capability_data import CapabilityData
from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.sandbox import BuilderOutput, Sandbox
from chiron.wire.contract import Trial


class Builder:
    """Runs one job's builder, once a trial. Only the leading trainer has one."""

    def __init__(self, ticket: Ticket, component: bytes, data: CapabilityData, sandbox: Sandbox) -> None:
        self._ticket = ticket
        self._component = component
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

    async def plan(self, trial: int, history: Sequence[Trial]) -> AdmittedPlan | None:
        """The builder's plan for a trial: `build` for the first one, `revise` for later ones.

        None: it has no better idea than the best plan so far.

        Raises:
            SandboxError: the builder failed or may not run, or its answer is not admitted.
        """
        raw = await asyncio.to_thread(self._run, trial, history)
        return None if raw is None else await asyncio.to_thread(self._admit, trial, raw)

    async def admit(self, trial: int, published: bytes) -> AdmittedPlan:
        """An earlier answer, as it was published; with the component's pretrained tensors.

        Raises:
            PeerRefused: it is not one.
        """
        assets = read_assets(self._component)
        plan = await asyncio.to_thread(decode_plan, self._ticket.spec, trial, published, assets)
        if plan is None:
            raise PeerRefused("plan-malformed", "the kept plan is none")
        return plan

    def _admit(self, trial: int, output: BuilderOutput) -> AdmittedPlan:
        assets = read_assets(self._component)
        return admit_plan(self._ticket.spec, trial, output.graph, output.recipe, assets)

    def _run(self, trial: int, history: Sequence[Trial]) -> BuilderOutput | None:
        request = self._ticket.spec.build_request(trial)
        grants, seed = self._ticket.capabilities, self._ticket.spec.seed
        if trial == 0:
            return self._sandbox.build(self._component, request, grants, self._data, seed=seed)
        return self._sandbox.revise(self._component, request, history, grants, self._data, seed=seed)
