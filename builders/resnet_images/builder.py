"""Residual blocks (arXiv:1512.03385) for small images."""

from chiron_builder import (
    BuildRefused,
    Graph,
    Plan,
    Request,
    Tensor,
    batch_norm,
    conv,
    global_average_pool,
    logits,
    relu,
    residual,
    scale,
)

STAGES = ((16, 1), (32, 2), (64, 2))
"""Channels, and the stride of the stage's first block."""
BLOCKS_IN_A_STAGE = 1


def build(request: Request) -> Plan:
    """A stem, three stages, the mean of each map, and a linear layer."""
    if request.task != "classification" or len(request.input_shape) != 3:
        raise BuildRefused("this builder classifies images [channels, height, width]")
    graph = Graph(request)
    x = scale(graph.input, 1 / 128, -1.0) if request.input_type == "uint8" else graph.input
    x = relu(batch_norm(conv(x, STAGES[0][0], bias=False)))
    for channels, stride in STAGES:
        for number in range(BLOCKS_IN_A_STAGE):
            x = block(x, channels, stride if number == 0 else 1)
    return graph.plan(
        logits(global_average_pool(x)),
        epochs=20,
        batch_size=64,
        optimizer={"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0005},
        schedule={"kind": "cosine"},
        warmup=0.1,
        augmentations={"horizontal_flip": True, "crop_padding": 2},
    )


def block(x: Tensor, channels: int, stride: int) -> Tensor:
    """Two convolutions beside the identity."""

    def inner(x: Tensor) -> Tensor:
        x = relu(batch_norm(conv(x, channels, stride=stride, bias=False)))
        return batch_norm(conv(x, channels, bias=False))

    return relu(residual(x, inner))
