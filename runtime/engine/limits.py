"""What the engine's process may take, in seconds and bytes.

The times are far above what a slow and busy machine needs: they are there so that a process which hangs is
found out at all. When something goes out does not depend on them, but on the schedule.
"""

from chiron.runtime.datasets.chunks import ChunkForm
from chiron.runtime.training.allocation import ACTIVATION_BYTES
from chiron.wire import objects
from chiron.wire.jobs import JobSpec, query_row_bytes

START_S = 120.0
"""Importing libraries and taking the job."""
ADMISSION_S = 300.0
GRADIENT_S = 900.0
"""Building the gradient graph, optimising it, and initial values."""
STEPS_S = 3600.0
"""The steps of one window of rows; all of them where the rows stay in memory."""
CALL_S = 600.0
PREDICTION_S = 600.0

_LIBRARIES_BYTES = 2**30
"""Work space of libraries, and of the gradient builder."""
_VECTORS = 24
"""Of the parameters' length: weights, gradients, moments, averages, and copies while a model is written."""
_COPIES = 3
"""Of the rows: as they are kept, as they come, and as a window is mixed."""


def memory_of_prediction(spec: JobSpec) -> int:
    """Address space that a model and a query may add."""
    rows = 4 * spec.query_rows * query_row_bytes(spec.dataset)
    return _LIBRARIES_BYTES + ACTIVATION_BYTES + 4 * objects.model(spec).content_bytes + rows


def memory_of_training(spec: JobSpec, index: int) -> int:
    """Address space that a learner may add. Not what it uses: an allocator reserves more."""
    rows = len(range(index, spec.dataset.chunks, spec.exchange.trainers))
    data = _COPIES * rows * ChunkForm.of(spec.dataset).layout().size
    return _LIBRARIES_BYTES + 2 * ACTIVATION_BYTES + _VECTORS * 4 * spec.exchange.parameters + data
