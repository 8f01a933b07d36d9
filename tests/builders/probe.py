"""A builder that tells what it is told: one log line of JSON for each capability."""

import json

from chiron_builder import Graph, Plan, Request, dense
from chiron_builder.capabilities import dataset, log, random_bytes, random_u64, sample, statistics


def build(request: Request) -> Plan:
    """Logs everything; raises where there is more than one class."""
    shape, told = dataset(), statistics()
    tell("shape", [shape.examples, shape.input_shape, shape.target_shape, shape.classes])
    tell("means", list(told.inputs.mean))
    tell("levels", list(told.quantile_levels))
    tell("counts", list(told.class_counts))
    tell("granularity", told.granularity)
    tell("sample", [[example.floats(), example.target.hex()] for example in sample()])
    tell("random", [random_u64(), random_bytes(3).hex()])
    if request.classes > 1:
        raise KeyError("a mistake")
    graph = Graph(request)
    return graph.plan(dense(graph.input, request.outputs))


def tell(name: str, value: object) -> None:
    """One line."""
    log(json.dumps({name: value}), "debug")
