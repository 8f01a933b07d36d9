"""Logistic regression over a table, standardised inside the graph with granted statistics."""

from chiron_builder import BuildRefused, Graph, Plan, Request, logits, standardise
from chiron_builder.capabilities import statistics


def build(request: Request) -> Plan:
    """One product. At query time the owner sends raw rows: the graph standardises them itself."""
    if request.task != "classification":
        raise BuildRefused("this builder classifies")
    columns = statistics().inputs
    graph = Graph(request)
    x = standardise(graph.input, columns.mean, columns.standard_deviation)
    return graph.plan(
        logits(x),
        epochs=60,
        batch_size=32,
        optimizer={"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.001},
    )
