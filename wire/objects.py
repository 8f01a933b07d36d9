"""Every object that a job's enclaves store with the operator: its name, its size, and who writes it.

All of it follows from the public job spec. The enclaves write by it, and the gateway stores nothing else. So
the sizes say nothing of the data, and a job cannot fail because two sides count differently.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from chiron.wire.attestation import Role
from chiron.wire.exchange import ExchangeMode, ExchangeSpec, shard_spec
from chiron.wire.jobs import SUMS, JobSpec, plan_bytes
from chiron.wire.machines import MAX_MACHINES, MAX_RECIPE_BYTES

_LENGTH_BYTES = 8
"""Padding begins with the content's length (`chiron.runtime.sealing.padding`)."""
SEALED_TO_KEY_BYTES = 1088 + 32 + 16 + _LENGTH_BYTES
"""HPKE (`chiron.runtime.sealing.hpke`): the ML-KEM-768 ciphertext, the X25519 key, the tag; and padding."""
SEALED_UNDER_SHARE_BYTES = 8 + 12 + 48 + 16 + _LENGTH_BYTES
"""A `chiron.runtime.sealing.sealer.seal_blob`: magic, nonce, wrapped key, tag; and padding."""
SEALED_TO_MACHINE_BYTES = 1 + MAX_RECIPE_BYTES + 32 + 1088 + 32 + 16
"""The room of one machine in a sealed object: recipe's length, recipe, and 32 bytes sealed by HPKE."""
SEALED_TO_ENCLAVE_BYTES = (
    8
    + (1 + MAX_RECIPE_BYTES + 12 + 32 + 16)
    + MAX_MACHINES * SEALED_TO_MACHINE_BYTES
    + SEALED_UNDER_SHARE_BYTES
)
"""A `chiron.runtime.sealing.sealer.Sealer`: magic, the entry of the machine that seals, room for as many
others as there can be, and the blob."""

REPORT_BYTES = 1024
OUTCOME_BYTES = 8192
MODEL_HEADER_BYTES = 16 * 1024
"""Room for what is said of the model in words."""
MODEL_NODES_BYTES = 48 * 1024
"""Room beside the graph and the weights: for names, preprocessing and activation."""
GRANT_BYTES = 112 * 1024
"""Room for the grant in the parameter server's checkpoint."""
LEADER_HEAD_BYTES = 32 * 1024
TRIAL_BYTES = 320 * 1024
"""Room for one trial of the leading trainer's history. A recipe has at most 64 KiB, and its numbers written
out in full are not five times as long (1e15 becomes 1000000000000000.0)."""
LEARNER_VECTORS = 5
"""Parameters, two moments of the optimizer, moving average, best so far: the most that a recipe needs."""
TRAINER_HEAD_BYTES = 4096
"""Room for what a trainer's checkpoint says in words; as much again for counters and the tensors' header."""
MAX_TRAINER_CHECKPOINT_BYTES = 2**30
"""Jobs whose trainers' checkpoints would be larger keep none: each exchange would carry them all."""
STATE_HEADER_BYTES = 704
"""Room for the names and shapes before the tensors of a server's state. The longest header, of 200 million
parameters in bfloat16 and 1,024 trainers, has 693."""
_SHORT_HEAD_BYTES = 64
"""Room for a head that says next to nothing, with the lengths before it."""
SHARE_BYTES = 32
SETTLEMENT_BYTES = 32 * 1024
"""Room for the counts of as many passes as there can be."""


@dataclass(frozen=True)
class StoredObject:
    """One object in the operator's storage. It is padded, so it always has `stored_bytes`."""

    name: str
    writer: Role
    index: int | None
    """The number of the enclave that writes it; None: any of its role."""
    head_bytes: int
    """Room for what is said in words."""
    part_bytes: tuple[int, ...] = ()
    """Room for each run of bytes that follows, in order."""
    overhead_bytes: int = SEALED_TO_ENCLAVE_BYTES
    """What sealing adds."""

    @property
    def content_bytes(self) -> int:
        """Room before sealing."""
        return self.head_bytes + sum(self.part_bytes)

    @property
    def stored_bytes(self) -> int:
        """Length in storage."""
        return self.content_bytes + self.overhead_bytes


def report(exchange: int) -> StoredObject:
    """The leading trainer's report of an exchange, from 0, sealed to the owner."""
    name = f"report-{exchange:04d}"
    return StoredObject(name, Role.TRAINER, 0, REPORT_BYTES, overhead_bytes=SEALED_TO_KEY_BYTES)


def outcome() -> StoredObject:
    """How the job really ended, sealed to the owner."""
    return StoredObject("outcome", Role.TRAINER, 0, OUTCOME_BYTES, overhead_bytes=SEALED_TO_KEY_BYTES)


def model(spec: JobSpec) -> StoredObject:
    """What the job made, sealed to the measurement. Newer code that takes it over writes it too."""
    onnx = MODEL_NODES_BYTES + spec.envelope.max_graph_bytes + 4 * spec.envelope.max_parameters
    return StoredObject("model", Role.TRAINER, 0, MODEL_HEADER_BYTES, (onnx,))


def transfer(spec: JobSpec) -> StoredObject:
    """The owner's share and the model, on their way to newer code, sealed to the enclave that takes them."""
    moved = model(spec)
    return StoredObject(
        "transfer",
        Role.PREDICTOR,
        None,
        SHARE_BYTES + moved.head_bytes,
        moved.part_bytes,
        SEALED_TO_KEY_BYTES,
    )


def settlement() -> StoredObject:
    """What a predictor answered under its last opening, sealed under its owner's share."""
    return StoredObject(
        "settlement", Role.PREDICTOR, None, SETTLEMENT_BYTES, overhead_bytes=SEALED_UNDER_SHARE_BYTES
    )


def leader_checkpoint(spec: JobSpec) -> StoredObject:
    """What the leading trainer knows besides its training, as each trial begins.

    The parts are the plan of this trial; and, where there are others to compare it with, the plan and the
    model of the best one so far. One byte more than a model may have: one that is too large stays too large.
    """
    parts = (plan_bytes(spec), 0, 0)
    if spec.trials > 1:
        parts = (plan_bytes(spec), plan_bytes(spec), model(spec).content_bytes + 1)
    head = LEADER_HEAD_BYTES + (spec.trials - 1) * TRIAL_BYTES
    return StoredObject("checkpoint-leader", Role.TRAINER, 0, head, parts)


def trainer_checkpoint(spec: JobSpec, index: int) -> StoredObject:
    """A trainer's state between two exchanges: its learner's tensors, then its exchange client's."""
    learner = TRAINER_HEAD_BYTES + LEARNER_VECTORS * 4 * spec.exchange.parameters
    parts = (learner, _client_bytes(spec.exchange))
    return StoredObject(f"checkpoint-trainer-{index}", Role.TRAINER, index, TRAINER_HEAD_BYTES, parts)


def keeps_trainer_checkpoints(spec: JobSpec) -> bool:
    """Whether the job's trainers store any."""
    size = trainer_checkpoint(spec, 0).content_bytes
    return spec.exchange.trainer_checkpoints and size <= MAX_TRAINER_CHECKPOINT_BYTES


def server_checkpoint(spec: JobSpec) -> StoredObject:
    """The parameter server's state after every merge, behind the grant."""
    exchange = shard_spec(spec.exchange, 0, spec.exchange.shards)
    state = _server_bytes(exchange, plan_bytes(spec), SUMS)
    return StoredObject("checkpoint-parameter-server", Role.PARAMETER_SERVER, 0, GRANT_BYTES, (state,))


def shard_checkpoint(spec: JobSpec, index: int) -> StoredObject:
    """The state of another shard, from 1, after every merge. It carries neither plan nor sums."""
    exchange = shard_spec(spec.exchange, index, spec.exchange.shards)
    name = f"checkpoint-parameter-server-{index}"
    return StoredObject(name, Role.SHARD, index, _SHORT_HEAD_BYTES, (_server_bytes(exchange, 0, 0),))


def all_objects(spec: JobSpec) -> Iterator[StoredObject]:
    """Every object that a job of this spec can ever have."""
    exchange = spec.exchange
    yield from _single(spec)
    yield from map(report, range(exchange.exchanges))
    yield from (shard_checkpoint(spec, index) for index in range(1, exchange.shards))
    if keeps_trainer_checkpoints(spec):
        yield from (trainer_checkpoint(spec, index) for index in range(exchange.trainers))


def all_bytes(spec: JobSpec) -> int:
    """Bytes of all of them together. Reports, of which there can be many, are all of one size."""
    exchange = spec.exchange
    rest = [*_single(spec), *(shard_checkpoint(spec, index) for index in range(1, exchange.shards))]
    if keeps_trainer_checkpoints(spec):
        rest += [trainer_checkpoint(spec, index) for index in range(exchange.trainers)]
    return exchange.exchanges * report(0).stored_bytes + sum(one.stored_bytes for one in rest)


def find_object(spec: JobSpec, name: str) -> StoredObject | None:
    """The object of this name; None where no job of this spec has one. Does not make all to find one."""
    number = name.rpartition("-")[2]
    index = int(number) if number.isascii() and number.isdigit() and len(number) <= 6 else -1
    both = chain(_single(spec), _numbered(spec, index))
    return next((one for one in both if one.name == name), None)


def _single(spec: JobSpec) -> tuple[StoredObject, ...]:
    return (
        outcome(),
        model(spec),
        transfer(spec),
        settlement(),
        leader_checkpoint(spec),
        server_checkpoint(spec),
    )


def _numbered(spec: JobSpec, index: int) -> Iterator[StoredObject]:
    exchange = spec.exchange
    if 0 <= index < exchange.exchanges:
        yield report(index)
    if 0 <= index < exchange.trainers and keeps_trainer_checkpoints(spec):
        yield trainer_checkpoint(spec, index)
    if 1 <= index < exchange.shards:
        yield shard_checkpoint(spec, index)


def _client_bytes(exchange: ExchangeSpec) -> int:
    """What `chiron.ps.client.ParameterClient.kept` holds: the last vector, and for bfloat16 what is owed."""
    narrow = exchange.dtype == "bfloat16"
    vectors = 2 if narrow else 1 if exchange.clip_norm is not None else 0
    return vectors * 4 * exchange.parameters


def _server_bytes(exchange: ExchangeSpec, plan: int, sums: int) -> int:
    """Room for what `chiron.ps.checkpoint.dump` writes of a server."""
    vectors = 4 + 4 + (2 + 2 if exchange.dtype == "bfloat16" else 0)
    counted = 6 * 8 + (
        exchange.trainers * (8 + 8 + 8 * sums)
        if exchange.mode is ExchangeMode.ASYNC
        else 2 * 8 + 8 * sums + exchange.trainers
    )
    return STATE_HEADER_BYTES + vectors * exchange.parameters + plan + counted
