"""What goes over the channel between an enclave's process and its engine's.

Frames are those of `chiron.wasm_sandbox.codec`. A command is a head in JSON, and up to three runs of bytes.
It has one answer: `DONE` with a head and one run of bytes, or `FAILED`. The parent believes nothing of an
answer that does not meet the bounds which it gives with each command, and a schema below.
"""

from enum import IntEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.wasm_sandbox.codec import Bounds
from chiron.wasm_sandbox.errors import Code, SandboxError, failure
from chiron.wasm_sandbox.graph_codes import GraphCode, refused
from chiron.wire.encoding import WireModel
from chiron.wire.jobs import JobSpec

HEAD_BYTES = 4096
"""The most that an answer says in words."""
_OF_PLANS = frozenset(code for code in Code if code.startswith(("component-", "plan-", "recipe-")))


class Kind(IntEnum):
    """What a frame is. A command's runs of bytes are named in brackets."""

    OPEN = 1
    """Take a job: `Opening`."""
    ADMIT = 2
    """Check a plan: `Trial` [graph, recipe, component]; `Admitted`."""
    BEGIN = 3
    """Make the learner of the plan: `Beginning`."""
    ADOPT = 4
    """Go on from a vector [it]."""
    TRAIN = 5
    """Take the steps before an exchange, on the rows that follow: `Exchange`."""
    ROWS = 6
    """The next chunk's rows: `Count` [they]."""
    FINISH = 7
    """Say what came of the steps: `Trained` [sums, vector]."""
    REPORT = 8
    """Say what the sums of all trainers mean: `Exchange` [sums]; a `TrainingReport`."""
    EXPORT = 9
    """The inference model [it]."""
    STATE = 10
    """The learner's state [it]."""
    RESTORE = 11
    """Go on from a state [it]."""
    LOAD = 12
    """Load an exported model [it]."""
    PREDICT = 13
    """Answer for rows: `Count` [they]; [the answers]."""
    STRICT = 14
    """Say what strict would change in a plan: as ADMIT; `Nothing` [`StrictForms`]. No job asks."""
    DONE = 32
    FAILED = 33


class Opening(WireModel):
    """The job that the process works for."""

    spec: JobSpec
    index: int = Field(ge=0, le=1023)
    learns: bool = True
    """Whether it trains; else it only predicts."""
    shared: bool
    """Whether descriptor 2 is the memory that both sides see."""
    memory_bytes: int = Field(ge=0)
    """Address space that the process may add."""


class Trial(WireModel):
    """The trial that a plan is for."""

    trial: int = Field(ge=0, le=63)
    with_component: bool
    """Whether the component is here, for its pretrained tensors."""


class Admitted(WireModel):
    """What the parent may know of a graph."""

    parameters: int = Field(ge=1, le=2**40)
    """Elements of the vector that are the graph's."""
    activation_bytes: int = Field(ge=0, le=2**50)
    """Bytes of the values that one example makes."""


class StrictFormSaid(WireModel):
    """A `chiron.runtime.training.strict_cost.StrictForm`."""

    node: str = Field(max_length=1024)
    operator: str = Field(max_length=64)
    form: str = Field(max_length=400)
    elements: int = Field(ge=0, le=2**60)
    multiply_adds: int = Field(ge=0, le=2**60)


class StrictForms(WireModel):
    """The nodes that strict puts in another form. Untrusted, for a rehearsal only."""

    forms: tuple[StrictFormSaid, ...] = Field(max_length=20_000)


class Beginning(WireModel):
    """How a learner begins."""

    from_start: bool
    """Whether it makes the initial values."""


class Exchange(WireModel):
    """An exchange, and how many there are."""

    number: int = Field(ge=0, le=100_000)
    of: int = Field(default=0, ge=0, le=100_000)


class Count(WireModel):
    """How many rows follow."""

    rows: int = Field(ge=0)


class Nothing(WireModel):
    """There is nothing to say."""


class Trained(WireModel):
    """What the parent may know of the steps."""

    steps: int = Field(ge=0, le=2**40)
    learning_rate: float


class Failure(WireModel):
    """Why a command was not done. The code is one of ours, or stands for none."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    detail: str = Field(default="", max_length=400)
    """Untrusted, for a rehearsal only."""


def bounds(content: int) -> Bounds:
    """Of an answer with at most so many bytes after its head."""
    return {Kind.DONE: (HEAD_BYTES, content), Kind.FAILED: (HEAD_BYTES,)}


def error_of(said: Failure) -> TrainingFailed | SandboxError:
    """The error that stands for a failure, in our own words."""
    # Codes of admission first: one is also a reason, and admission's has the operator's name with it.
    for code in GraphCode:
        if said.code == code:
            return refused(code, said.detail)
    for reason in Reason:
        if said.code == reason:
            return TrainingFailed(reason)
    for known in _OF_PLANS:
        if said.code == known:
            return failure(known, said.detail)
    return TrainingFailed(Reason.ENGINE_FAILED)
