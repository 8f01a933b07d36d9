"""What `oblivious: strict` would put in other forms in a graph, and what that costs.

Nothing is known here of any operator: the passes that a strict job runs are run, and what they changed is
told.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from onnx import ModelProto

from chiron.runtime.training.graphs import forward_model
from chiron.runtime.training.rewrites import STRICT_ENDS, STRICT_FORMS
from chiron.runtime.training.rewrites.editing import declare_shapes, rewrite_with, shapes_for
from chiron.runtime.training.rewrites.strict import nothing_by_address
from chiron.wasm_sandbox.graph import AdmittedGraph

_PRODUCT = "MatMul"


@dataclass(frozen=True)
class StrictForm:
    """A node that gets another form."""

    node: str
    """The value that it makes."""
    operator: str
    form: str
    """The passes that change it, by name."""
    elements: int
    """Numbers made in its place for one example, beyond its own."""
    multiply_adds: int
    """Of the products in its place, for one example."""


def strict_forms(graph: AdmittedGraph) -> list[StrictForm]:
    """The nodes of a forward graph that a strict job puts in another form, in order.

    Raises:
        TrainingFailed: addresses-depend-on-data, where one has none.
    """
    model = forward_model(graph)
    declare_shapes(model)
    nodes = {node.output[0]: node.op_type for node in model.graph.node}
    before = shapes_for(model, 1)
    origin: dict[str, str] = {}
    passes: dict[str, list[str]] = {}
    for apply in (*STRICT_FORMS, *STRICT_ENDS):
        for old, new in rewrite_with(model, apply):
            first = origin.get(old.output[0], old.output[0])
            origin.update((node.output[0], first) for node in new)
            names = passes.setdefault(first, [])
            if apply.__name__ not in names:
                names.append(apply.__name__)
    rewrite_with(model, nothing_by_address)
    elements, products = _made(model, origin)
    return [
        StrictForm(
            name,
            operator,
            ", ".join(passes[name]).replace("_", " "),
            max(0, elements[name] - prod(before.get(name, ()))),
            products[name],
        )
        for name, operator in nodes.items()
        if name in passes
    ]


def _made(model: ModelProto, origin: Mapping[str, str]) -> tuple[Counter[str], Counter[str]]:
    """Elements and multiply-adds of the nodes that stand in each changed node's place."""
    shapes, elements, products = shapes_for(model, 1), Counter[str](), Counter[str]()
    for node in model.graph.node:
        if (place := origin.get(node.output[0])) is None:
            continue
        made = prod(shapes.get(node.output[0], (0,)))
        elements[place] += made
        if node.op_type == _PRODUCT:
            products[place] += made * shapes.get(node.input[0], (0,))[-1]
    return elements, products
