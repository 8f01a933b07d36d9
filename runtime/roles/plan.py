"""A trial's plan as the leading trainer publishes it: of one size a job, whether there is a plan or none.

The graph is bytes here, which the engine's process looks at and nobody else (`chiron.runtime.engine`).
"""

import struct
from typing import NamedTuple

from chiron.runtime.errors import PeerRefused
from chiron.wasm_sandbox.errors import Code, SandboxError, failure
from chiron.wasm_sandbox.recipe import Recipe, parse_recipe
from chiron.wasm_sandbox.recipe_fit import check_recipe
from chiron.wire.jobs import JobSpec

_HEAD = struct.Struct("<4sBII")
_MAGIC = b"CHPL"


class Plan(NamedTuple):
    """A graph to train, not looked at, and the recipe for it."""

    graph: bytes
    recipe_text: bytes
    recipe: Recipe
    """What the text says; it fits the job."""

    @property
    def published(self) -> bytes:
        """The plan as the other trainers get it."""
        head = _HEAD.pack(_MAGIC, 1, len(self.graph), len(self.recipe_text))
        return head + self.graph + self.recipe_text


NO_PLAN = _HEAD.pack(_MAGIC, 0, 0, 0)
"""Published in place of a plan where a trial has none: everybody runs the schedule without learning."""


def read_plan(spec: JobSpec, trial: int, graph: bytes, recipe: bytes) -> Plan:
    """A builder's answer, whose graph is to be admitted yet.

    Raises:
        SandboxError: the recipe is not one, or both are larger than the envelope.
    """
    if len(graph) + len(recipe) > spec.envelope.max_graph_bytes:
        raise failure(Code.PLAN_TOO_LARGE)
    parsed = parse_recipe(recipe)
    check_recipe(parsed, spec.build_request(trial), spec.oblivious)
    return Plan(graph, recipe, parsed)


def decode_plan(spec: JobSpec, trial: int, published: bytes) -> Plan | None:
    """Read what the leading trainer published; None if the trial has no plan.

    It is an enclave of our own measurement and has had the plan admitted, but a graph is admitted again
    wherever it is used: admission is what gives it its parameters.

    Raises:
        PeerRefused: it is not laid out as a plan, or its recipe is not one.
    """
    try:
        magic, usable, graph_length, recipe_length = _HEAD.unpack_from(published)
        if magic != _MAGIC or _HEAD.size + graph_length + recipe_length > len(published):
            raise PeerRefused("plan-malformed", "the published plan is malformed")
        if not usable:
            return None
        graph = bytes(published[_HEAD.size : _HEAD.size + graph_length])
        recipe = bytes(published[_HEAD.size + graph_length :][:recipe_length])
        return read_plan(spec, trial, graph, recipe)
    except (struct.error, SandboxError) as error:
        raise PeerRefused("plan-malformed", "the published plan is malformed") from error
