"""How many examples fit in memory at a time. An enclave that runs out of it ends, and the host sees that."""

from chiron.runtime.training.errors import Reason, TrainingFailed
from chiron.runtime.training.timetable import Part, Timetable
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import Recipe

ACTIVATION_BYTES = 4 * 2**30
"""For the values of one batch, forward and backward."""
_LARGEST_EVALUATION = 128
_BACKWARD = 2
"""A training step holds about as many gradients as values."""


def check_batch(graph: AdmittedGraph, recipe: Recipe, part: Part, timetable: Timetable) -> None:
    """Refuse a batch whose values do not fit.

    Raises:
        TrainingFailed: batch-exceeds-memory.
    """
    rows = -(-sum(part.training_rows) // timetable.steps_per_epoch)
    at_once = -(-rows // recipe.accumulation)
    needed = _BACKWARD * (at_once * graph.activation_bytes_per_example + graph.activation_bytes_fixed)
    if needed > ACTIVATION_BYTES:
        raise TrainingFailed(Reason.BATCH_EXCEEDS_MEMORY)


def evaluation_rows(graph: AdmittedGraph) -> int:
    """Rows to evaluate at a time."""
    return max(1, min(_LARGEST_EVALUATION, ACTIVATION_BYTES // max(graph.activation_bytes_per_example, 1)))
