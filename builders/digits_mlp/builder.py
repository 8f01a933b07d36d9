"""A small perceptron for images or tables of classes: trains on handwritten digits in seconds."""

from chiron_builder import BuildRefused, Graph, Plan, Request, dense, logits, relu, scale
from chiron_builder.capabilities import dataset, log

HIDDEN = (64, 32)


def build(request: Request) -> Plan:
    """Two hidden layers over the scaled, flattened input."""
    if request.task != "classification":
        raise BuildRefused("this builder classifies")
    graph = Graph(request)
    x = graph.input
    if request.input_type == "uint8":
        # scikit-learn's digits, 8 × 8, have 16 shades; other images have 256.
        x = scale(x, 1 / 16 if request.input_shape[-2:] == (8, 8) else 1 / 255)
    for units in HIDDEN:
        x = relu(dense(x, units))
    scores = logits(x)
    log(f"{graph.parameters} parameters for {dataset().examples} examples")
    return graph.plan(
        scores,
        epochs=40,
        batch_size=32,
        optimizer={"kind": "adamw", "learning_rate": 0.004, "weight_decay": 0.01},
        schedule={"kind": "cosine"},
        warmup=0.05,
    )
