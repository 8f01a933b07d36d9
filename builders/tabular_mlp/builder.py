"""A perceptron over a table: weighs rare classes up, and looks for a learning rate over several trials."""

from chiron_builder import Graph, Plan, Request, Tensor, batch_norm, dense, dropout, relu, standardise
from chiron_builder.capabilities import Statistics, statistics

LEARNING_RATES = (0.01, 0.003, 0.03, 0.001)


def build(request: Request) -> Plan:
    """The first trial."""
    return plan(request, LEARNING_RATES[0])


def revise(request: Request) -> Plan | None:
    """Try the other learning rates; then keep the best, which the enclave knows and nobody tells us."""
    if request.trial >= len(LEARNING_RATES):
        return None
    return plan(request, LEARNING_RATES[request.trial])


def plan(request: Request, learning_rate: float) -> Plan:
    """The same model for any learning rate."""
    summary = statistics()
    graph = Graph(request)
    x = standardise(graph.input, summary.inputs.mean, summary.inputs.standard_deviation)
    x = dropout(relu(batch_norm(dense(x, 64, bias=False))), 0.1)
    x = relu(dense(x, 32))
    output = dense(x, request.outputs, name="output")
    if request.task == "regression":
        output = in_the_targets_units(output, summary)
    return graph.plan(
        output,
        loss=loss(request, summary),
        epochs=40,
        batch_size=32,
        optimizer={"kind": "adamw", "learning_rate": learning_rate},
    )


def loss(request: Request, summary: Statistics) -> dict[str, object]:
    """Cross-entropy weighted by how rare a class is; Huber's loss for values."""
    if request.task == "regression":
        return {"kind": "huber", "delta": max(summary.targets.standard_deviation)}
    counts = [max(count, 1) for count in summary.class_counts]
    weights = [sum(counts) / len(counts) / count for count in counts]
    return {"kind": "cross-entropy", "class_weights": weights, "label_smoothing": 0.02}


def in_the_targets_units(output: Tensor, summary: Statistics) -> Tensor:
    """Values around 0 become values around the targets' mean."""
    return output * summary.targets.standard_deviation[0] + summary.targets.mean[0]
