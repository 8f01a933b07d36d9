"""What the roles store has exactly the names and sizes that the gateway's quota allows them, for any spec."""

import asyncio
import json
import math
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.api.errors import ObjectRefused
from chiron.api.jobs.specification import object_limit
from chiron.ps.checkpoint import dump
from chiron.ps.server import ParameterServer
from chiron.ps.sharding import ShardedClient, shard_server
from chiron.runtime.attestation.platform import Quoted, SealingPolicy
from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.openings import seal_settlement
from chiron.runtime.reports import seal_outcome, seal_report
from chiron.runtime.roles.sealed_model import ModelHeader, seal_model
from chiron.runtime.roles.selection import LeaderCheckpoint, Selection
from chiron.runtime.roles.server_checkpoint import ServerCheckpoint, ShardCheckpoint
from chiron.runtime.roles.trainer_checkpoint import TrainerCheckpoint
from chiron.runtime.roles.trial_run import TrialRun
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import objects
from chiron.wire.attestation import AttestationPolicy, Role
from chiron.wire.contract import CapabilityGrants
from chiron.wire.exchange import ExchangeMode, ExchangeSpec
from chiron.wire.grants import Grant, PredictionPolicy
from chiron.wire.jobs import SUMS, JobSpec, plan_bytes
from chiron.wire.labels import CHECKPOINT, MODEL
from chiron.wire.reports import Outcome, OutcomeStatus, TrainingReport
from tests.support.jobs import make_job

OWNER = hpke.PrivateKey.generate().public_bytes
BASE = make_job(np.zeros((4, 2), np.float32), np.zeros(4, np.int64), classes=2, rows=4).spec


@st.composite
def specs(draw: st.DrawFn) -> JobSpec:
    """Small specs of every kind of exchange."""
    mode = draw(st.sampled_from(ExchangeMode))
    parameters = draw(st.integers(3, 5000))
    exchange = ExchangeSpec(
        parameters=parameters,
        trainers=draw(st.integers(1, 4)),
        exchanges=draw(st.integers(1, 3)),
        mode=mode,
        shards=draw(st.integers(1, 3)),
        dtype=draw(st.sampled_from(["float32"] if mode is ExchangeMode.ASYNC else ["float32", "bfloat16"])),
        clip_norm=draw(st.sampled_from([None, 1.0])),
        trainer_checkpoints=draw(st.booleans()),
    )
    envelope = BASE.envelope.model_copy(
        update={"max_parameters": parameters, "max_graph_bytes": draw(st.integers(1024, 5000))}
    )
    changes = {"exchange": exchange, "envelope": envelope, "trials": draw(st.integers(1, 3))}
    return JobSpec.model_validate(BASE.model_dump() | changes)


class FixedKeys:
    """A platform whose sealing keys are all the same; it quotes nothing."""

    def quote(self, report_data: bytes) -> Quoted:
        raise NotImplementedError

    def sealing_recipe(self) -> bytes:
        return b"recipe"

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> bytes:
        return bytes(32)


class Storage:
    """Takes what is stored, as the enclave `role` `index`, within the gateway's quota."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        self.sizes: dict[str, int] = {}
        self.writer: tuple[Role, int] = (Role.TRAINER, 0)

    async def put_object(self, name: str, sealed: bytes) -> None:
        assert len(sealed) == object_limit(self.spec, name, *self.writer), name
        self.sizes[name] = len(sealed)


class IdleRun:
    """A run without a learner."""

    trial = 0
    failure = None

    async def state(self) -> bytes:
        return b""


def _ticket(spec: JobSpec) -> Ticket:
    return Ticket(
        spec=spec,
        dataset_key=bytes(32),
        capabilities=CapabilityGrants(),
        prediction=PredictionPolicy(),
        owner_public_key=OWNER,
        owner_signing_key=bytes(32),
        attestation=AttestationPolicy(measurements=frozenset({"0" * 64})),
        share=bytes(32),
    )


def _grant(spec: JobSpec) -> Grant:
    return Grant(
        job=spec.job,
        dataset_key=bytes(32),
        dataset_digest=spec.dataset.digest(),
        spec_digest=spec.digest(),
        attestation=AttestationPolicy(measurements=frozenset({"0" * 64})),
        owner_public_key=OWNER,
        issued_at=0,
        expires_at=2**36,
        share=bytes(32),
        owner_signing_key=bytes(32),
    )


async def _store_servers(spec: JobSpec, storage: Storage, gateway: GatewayClient) -> None:
    shards = spec.exchange.shards

    def server(index: int) -> ParameterServer:
        return shard_server(spec.exchange, plan_bytes(spec), index, shards, sums=SUMS)

    storage.writer = Role.PARAMETER_SERVER, 0
    await ServerCheckpoint(spec, FixedKeys(), gateway).save(_grant(spec), server(0))
    for index in range(1, shards):
        storage.writer = Role.SHARD, index
        await ShardCheckpoint(spec, index, bytes(32), bytes(32), FixedKeys(), gateway).save(server(index))


async def _store_trainers(spec: JobSpec, storage: Storage, gateway: GatewayClient) -> None:
    sealer, shards = Sealer(FixedKeys(), CHECKPOINT), spec.exchange.shards
    for index in range(spec.exchange.trainers):
        storage.writer = Role.TRAINER, index
        client = ShardedClient([cast("Any", None)] * shards, [""] * shards, spec.exchange, plan_bytes(spec))
        checkpoint = TrainerCheckpoint(_ticket(spec), index, client, sealer, gateway)
        if checkpoint.kept:
            run = cast("TrialRun", IdleRun())
            await checkpoint.store(await checkpoint.snapshot(0, 0, run, late=0, given_up=0))


async def _store_results(spec: JobSpec, storage: Storage, gateway: GatewayClient) -> None:
    storage.writer = Role.TRAINER, 0
    outcome = Outcome(status=OutcomeStatus.TRAINED)
    checkpoint = LeaderCheckpoint(_ticket(spec), Sealer(FixedKeys(), CHECKPOINT), gateway)
    await checkpoint.save(0, Selection(), None)
    for exchange in range(spec.exchange.exchanges):
        sealed = seal_report(TrainingReport(exchange=exchange), job=spec.job, owner_public_key=OWNER)
        await storage.put_object(objects.report(exchange).name, sealed)
    sealed = seal_outcome(outcome, job=spec.job, owner_public_key=OWNER)
    await storage.put_object(objects.outcome().name, sealed)
    header = ModelHeader(
        job=spec.job,
        spec_digest=spec.digest(),
        prediction=PredictionPolicy(),
        owner_signing_key=bytes(32),
        usable=True,
    )
    sealed = seal_model(spec, header, b"onnx", Sealer(FixedKeys(), MODEL))
    await storage.put_object(objects.model(spec).name, sealed)


async def _store_settlement(spec: JobSpec, storage: Storage, _: GatewayClient) -> None:
    storage.writer = Role.PREDICTOR, 0
    sealed = seal_settlement(None, bytes(32), spec.job)
    await storage.put_object(objects.settlement().name, sealed)


@settings(max_examples=25, deadline=None)
@given(specs())
def test_what_roles_store_is_what_the_quota_allows(spec: JobSpec) -> None:
    storage = Storage(spec)

    async def store() -> None:
        gateway = cast("GatewayClient", storage)
        for part in (_store_servers, _store_trainers, _store_results, _store_settlement):
            await part(spec, storage, gateway)

    asyncio.run(store())
    allowed = {one.name: one.stored_bytes for one in objects.all_objects(spec)}
    # A model on its way needs two attested enclaves: tests/channels/test_upgrade.py holds its size.
    del allowed[objects.transfer(spec).name]
    assert storage.sizes == allowed


@settings(max_examples=50, deadline=None)
@given(specs(), st.text("abcdelmnoprstu-0123", max_size=24))
def test_an_object_is_found_by_its_name_and_no_other(spec: JobSpec, name: str) -> None:
    known = {one.name: one for one in objects.all_objects(spec)}
    assert all(objects.find_object(spec, one) == stored for one, stored in known.items())
    assert objects.find_object(spec, name) == known.get(name)


@given(specs(), st.sampled_from(Role), st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_each_enclave_stores_its_own_objects_only(spec: JobSpec, role: Role, index: int) -> None:
    for stored in objects.all_objects(spec):
        if stored.writer is role and stored.index in (None, index):
            assert object_limit(spec, stored.name, role, index) == stored.stored_bytes
        else:
            with pytest.raises(ObjectRefused):
                object_limit(spec, stored.name, role, index)


async def test_the_header_of_the_largest_servers_state_has_room() -> None:
    """A small state's header, with the numbers of the largest one in it."""
    limits = {997: 200_000_000, 4: 1024}
    exchange = ExchangeSpec(parameters=997, trainers=4, exchanges=1, dtype="bfloat16")
    state = dump(ParameterServer(exchange, 16 * 2**20, sums=SUMS))
    header = json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])
    end = 0
    for tensor in header.values():
        before, (start, stop) = math.prod(tensor["shape"]), tensor["data_offsets"]
        tensor["shape"] = [limits.get(size, size) for size in tensor["shape"]]
        tensor["data_offsets"] = [end, end := end + (stop - start) // before * math.prod(tensor["shape"])]
    assert any(limits[997] in tensor["shape"] for tensor in header.values())
    padded = -len(json.dumps(header, separators=(",", ":"))) // 8 * -8
    assert 8 + padded <= objects.STATE_HEADER_BYTES
