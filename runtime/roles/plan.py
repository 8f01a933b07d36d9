"""A trial's plan as the leading trainer publishes it: of one size a job, whether there is a plan or none."""

import struct
from typing import NamedTuple

from chiron.runtime.errors import PeerRefused
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import Assets
from chiron.wasm_sandbox.errors import Code, SandboxError, failure
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe, parse_recipe
from chiron.wasm_sandbox.recipe_fit import check_recipe
from chiron.wire.jobs import JobSpec

_HEAD = struct.Struct("<4sBII")
_MAGIC = b"CHPL"


class AdmittedPlan(NamedTuple):
    """A graph to train and the recipe for it, both admitted."""

    graph: AdmittedGraph
    recipe: Recipe
    published: bytes
    """The plan as the other trainers get it."""


NO_PLAN = _HEAD.pack(_MAGIC, 0, 0, 0)
"""Published in place of a plan where a trial has none: everybody runs the schedule without learning."""


def admit_plan(
    spec: JobSpec, trial: int, graph: bytes, recipe: bytes, assets: Assets | None = None
) -> AdmittedPlan:
    """Check a builder's answer against the job's public terms.

    `assets` are the component's pretrained tensors; only who makes initial values needs them.

    Raises:
        SandboxError: the graph is not admitted, the recipe is not one, or both are larger than the envelope.
    """
    request = spec.build_request(trial)
    if len(graph) + len(recipe) > spec.envelope.max_graph_bytes:
        raise failure(Code.PLAN_TOO_LARGE)
    parsed = parse_recipe(recipe)
    check_recipe(parsed, request)
    published = _HEAD.pack(_MAGIC, 1, len(graph), len(recipe)) + graph + recipe
    return AdmittedPlan(admit(graph, request, spec.envelope, assets=assets), parsed, published)


def decode_plan(
    spec: JobSpec, trial: int, published: bytes, assets: Assets | None = None
) -> AdmittedPlan | None:
    """Read what the leading trainer published; None if the trial has no plan.

    It is an enclave of our own measurement and has admitted the plan, but a graph is admitted again wherever
    it is used: admission is what gives it its parameters.

    Raises:
        PeerRefused: it is not laid out as a plan, or not one that we admit.
    """
    try:
        magic, usable, graph_length, recipe_length = _HEAD.unpack_from(published)
        if magic != _MAGIC or _HEAD.size + graph_length + recipe_length > len(published):
            raise PeerRefused("plan-malformed", "the published plan is malformed")
        if not usable:
            return None
        graph = published[_HEAD.size : _HEAD.size + graph_length]
        recipe = published[_HEAD.size + graph_length :][:recipe_length]
        return admit_plan(spec, trial, graph, recipe, assets)
    except (struct.error, SandboxError) as error:
        raise PeerRefused("plan-malformed", "the published plan is malformed") from error
