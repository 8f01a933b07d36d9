"""The builder's turn: fetch the component, confine it, and admit what it answers."""

import asyncio
from collections.abc import Sequence

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.datasets.statistics import collect
from chiron.runtime.errors import PeerRefused
from chiron.runtime.roles.plan import Plan, admit_plan, decode_plan, encode_plan
from chiron.wasm_sandbox.assets import read_assets
from chiron.wasm_sandbox.capability_data import CapabilityData
from chiron.wasm_sandbox.sandbox import RawPlan, Sandbox
from chiron.wire.contract import Trial
from chiron.wire.errors import ChironError


class Building:
    """Runs one job's builder, once a trial. Only the leading trainer has one."""

    def __init__(self, ticket: Ticket, component: bytes, data: CapabilityData, sandbox: Sandbox) -> None:
        self._ticket = ticket
        self._component = component
        self._data = data
        self._sandbox = sandbox

    @classmethod
    async def prepare(
        cls, ticket: Ticket, gateway: GatewayClient, dataset: EncryptedDataset, sandbox: Sandbox
    ) -> "Building":
        """Fetch the component, and collect what the owner granted it to see of the data.

        What is read for that follows from the grant alone, whatever the component will ask for.

        Raises:
            InputCorrupted: the host served another component than the job names.
            DatasetError: the host served another chunk, or the owner sealed a malformed one.
        """
        component = await gateway.builder(ticket.spec.builder_sha256)
        numbers = range(ticket.spec.dataset.chunks)
        data = await collect(dataset, numbers, ticket.capabilities, ticket.spec.seed)
        return cls(ticket, component, data, sandbox)

    async def plan(self, trial: int, history: Sequence[Trial]) -> tuple[Plan, bytes]:
        """The builder's plan for a trial, and the same as it is published.

        The first trial is `build`; later ones are `revise`, or the best so far where the builder has no
        better idea (`NoBetterIdea`).

        Raises:
            SandboxError: the builder failed or may not run, or its answer is not admitted.
            NoBetterIdea: it proposes nothing new.
        """
        raw = await asyncio.to_thread(self._run, trial, history)
        if raw is None:
            raise NoBetterIdea
        plan = await asyncio.to_thread(self._admit, trial, raw)
        return plan, encode_plan(raw.graph, raw.recipe)

    async def admit(self, trial: int, published: bytes) -> Plan:
        """An earlier answer, as it was published; with the component's pretrained tensors.

        Raises:
            PeerRefused: it is not one.
        """
        assets = read_assets(self._component)
        plan = await asyncio.to_thread(decode_plan, self._ticket.spec, trial, published, assets)
        if plan is None:
            raise PeerRefused("plan-malformed", "the kept plan is none")
        return plan

    def _admit(self, trial: int, raw: RawPlan) -> Plan:
        assets = read_assets(self._component)
        return admit_plan(self._ticket.spec, trial, raw.graph, raw.recipe, assets)

    def _run(self, trial: int, history: Sequence[Trial]) -> RawPlan | None:
        request = self._ticket.spec.build_request(trial)
        grants, seed = self._ticket.capabilities, self._ticket.spec.seed
        if trial == 0:
            return self._sandbox.build(self._component, request, grants, self._data, seed=seed)
        return self._sandbox.revise(self._component, request, history, grants, self._data, seed=seed)


class NoBetterIdea(ChironError):
    """The builder leaves the trial to the best plan so far."""

    code = "no-better-idea"
