"""Passes over graphs that make training faster and compute the same numbers (docs/benchmarks.md).

Each is a function on `Rewriting`; where it does not know a node's exact form it leaves the node alone. Tests
hold each against the untouched graph.
"""

from onnx import ModelProto

from chiron.runtime.training.rewrites.convolutions import (
    blocked_convolutions,
    input_gradient_as_convolution,
    rectified_convolutions,
)
from chiron.runtime.training.rewrites.editing import rewrite_with
from chiron.runtime.training.rewrites.gradients import (
    embedding_gradient_as_scatter,
    layer_norm_gradient_as_elementwise,
    leading_sums_as_products,
    relu_gradient_as_mask,
)
from chiron.runtime.training.rewrites.indices import (
    clamped_indices,
    gathers_as_products,
    one_hots_by_comparison,
)
from chiron.runtime.training.rewrites.pooling import (
    pooling_within_bounds,
    pooling_without_indices,
    rectified_after_pooling,
)
from chiron.runtime.training.rewrites.strict import (
    choices_as_products,
    log_softmax_gradients_by_exponents,
    logarithms_by_series,
    maxima_by_comparison,
    minima_as_maxima,
    nothing_by_address,
    pools_by_slices,
    powers_as_products,
)

FORWARD_PASSES = (rectified_after_pooling,)
"""Passes over the forward graph, before it is differentiated."""
PASSES = (
    relu_gradient_as_mask,
    layer_norm_gradient_as_elementwise,
    leading_sums_as_products,
    embedding_gradient_as_scatter,
    pooling_without_indices,
    input_gradient_as_convolution,
    blocked_convolutions,
    rectified_convolutions,
)
"""Passes over the gradient graph, in the order in which they are applied."""
STRICT_FORMS = (
    gathers_as_products,
    one_hots_by_comparison,
    pools_by_slices,
    powers_as_products,
    minima_as_maxima,
)
"""Passes over the forward graph that leave no address to data."""

STRICT_ENDS = (
    logarithms_by_series,
    log_softmax_gradients_by_exponents,
    maxima_by_comparison,
    choices_as_products,
)
"""The same over a graph that is run, differentiated where it is to be."""


def bound_indices(model: ModelProto) -> None:
    """Hold the indices of a forward graph to their bounds, in place; for safety."""
    rewrite_with(model, clamped_indices)


def use_strict_forms(model: ModelProto) -> None:
    """Put strict forms in place of what reads or writes where data say, in a forward graph, in place."""
    for apply in STRICT_FORMS:
        rewrite_with(model, apply)


def finish_strict(model: ModelProto) -> None:
    """The same in a graph that is run as it is: what is left to be put in another form, or refused.

    Raises:
        TrainingFailed: addresses-depend-on-data.
    """
    for apply in STRICT_ENDS:
        rewrite_with(model, apply)
    rewrite_with(model, nothing_by_address)


def rewrite_forward(model: ModelProto) -> None:
    """Apply all forward passes, in place."""
    for apply in FORWARD_PASSES:
        rewrite_with(model, apply)


def rewrite(model: ModelProto) -> None:
    """Apply all passes over the gradient graph, in place."""
    for apply in PASSES:
        rewrite_with(model, apply)


def hold_within_bounds(model: ModelProto) -> None:
    """Hold what the engine takes for places in memory to their buffers, in place; for safety."""
    rewrite_with(model, pooling_within_bounds)
