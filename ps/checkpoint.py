"""A server's whole state as bytes of one size, to go on from after a crash. Secret: it is to be sealed.

The format is safetensors with exactly the tensors of this spec, so that every checkpoint of a job is as long
as every other, whatever is in it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from chiron.ps.errors import CheckpointInvalid
from chiron.ps.server import HIGHEST_RUNG, Agreement, ParameterServer

_COUNTERS = "counters"
_PLAN = "plan"


def dump(server: ParameterServer) -> bytes:
    """The state as of the last merge or publication. To be called from the server's `persist` hook only."""
    agreed = server.slots
    counters = np.array(
        [server.trial, len(server.plan), server.shared.staged, agreed.trial, agreed.rung, agreed.raised],
        np.int64,
    )
    plan = np.zeros(server.layout.plan_bytes, np.uint8)
    plan[: len(server.plan)] = np.frombuffer(server.plan, np.uint8)
    return safetensors.numpy.save({_COUNTERS: counters, _PLAN: plan, **_arrays(server)})


def load(server: ParameterServer, data: bytes) -> None:
    """Put a fresh server into the state that `dump` wrote.

    Raises:
        CheckpointInvalid: it is not one of this spec.
    """
    arrays = _arrays(server)
    plan = np.empty(server.layout.plan_bytes, np.uint8)
    found = _parse(data, {_COUNTERS: np.empty(6, np.int64), _PLAN: plan, **arrays})
    trial, plan_length, staged, agreed, rung, raised = (int(value) for value in found[_COUNTERS])
    trials = -1 <= agreed <= trial < 2**16
    flags = {staged, raised} <= {0, 1}
    if not (trials and flags and 0 <= rung <= HIGHEST_RUNG and 0 <= plan_length <= server.layout.plan_bytes):
        raise CheckpointInvalid("checkpoint-invalid", "the checkpoint's counters are out of range")
    for name, array in arrays.items():
        array[...] = found[name]
    server.trial, server.shared.staged = trial, bool(staged)
    server.slots = Agreement(agreed, rung, bool(raised))
    server.plan = found[_PLAN][:plan_length].tobytes()
    server.exchange.restored()


def _arrays(server: ParameterServer) -> dict[str, NDArray[Any]]:
    """Every array that a checkpoint holds, by name: the live memory itself."""
    shared = server.shared
    arrays: dict[str, NDArray[Any]] = {
        "vector": shared.vector,
        "spare": shared.spare,
        "step": shared.step,
        "owed": shared.owed,
        **server.exchange.state,
    }
    return {name: array for name, array in arrays.items() if array.size}


def _parse(data: bytes, expected: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    try:
        found: dict[str, NDArray[Any]] = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise CheckpointInvalid("checkpoint-invalid", "not a checkpoint") from error
    shapes = {name: (array.shape, array.dtype) for name, array in found.items()}
    if shapes != {name: (array.shape, array.dtype) for name, array in expected.items()}:
        raise CheckpointInvalid("checkpoint-invalid", "a checkpoint of another spec")
    return found
