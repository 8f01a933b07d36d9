"""{{name}}: says what model to train for a job, before anybody has seen its data."""

from chiron_builder import Graph, Plan, Request, dense, dropout, logits, relu, scale
from chiron_builder.capabilities import dataset, log


def build(request: Request) -> Plan:
    """A perceptron for any input. Change it into your own model."""
    graph = Graph(request)
    # uint8 inputs are images, 0 to 255; float32 inputs are taken as the owner sends them.
    x = scale(graph.input, 1 / 255) if request.input_type == "uint8" else graph.input
    x = relu(dense(x, 64))
    x = dropout(x, 0.1)
    x = relu(dense(x, 32))
    output = logits(x) if request.task == "classification" else dense(x, request.outputs, name="values")
    log(f"{graph.parameters} parameters for {dataset().examples} examples")
    return graph.plan(output, epochs=30, batch_size=64, optimizer={"kind": "adamw", "learning_rate": 0.002})
