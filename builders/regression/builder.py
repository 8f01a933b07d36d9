"""Regression over a table: a linear model beside a small perceptron, in the targets' own units."""

from chiron_builder import BuildRefused, Graph, Plan, Request, dense, standardise, tanh
from chiron_builder.capabilities import statistics


def build(request: Request) -> Plan:
    """The perceptron adds to the linear model what that cannot say."""
    if request.task != "regression":
        raise BuildRefused("this builder predicts values")
    summary = statistics()
    graph = Graph(request)
    x = standardise(graph.input, summary.inputs.mean, summary.inputs.standard_deviation)
    linear = dense(x, request.outputs, name="linear")
    curved = dense(tanh(dense(x, 16)), request.outputs, name="curved")
    values = (linear + curved) * summary.targets.standard_deviation[0] + summary.targets.mean[0]
    return graph.plan(
        values,
        loss={"kind": "huber", "delta": summary.targets.standard_deviation[0]},
        epochs=60,
        batch_size=32,
        optimizer={"kind": "adamw", "learning_rate": 0.005, "weight_decay": 0.01},
        metrics=["rmse", "r2"],
    )
