"""Blocks of 3 × 3 convolutions and pooling, after VGG (arXiv:1409.1556), for small colour images."""

from chiron_builder import (
    BuildRefused,
    Graph,
    Plan,
    Request,
    Tensor,
    batch_norm,
    conv,
    dense,
    dropout,
    logits,
    max_pool,
    relu,
    scale,
)

BLOCKS = ((16, 16), (32, 32), (64, 64))
"""Channels of each convolution; images are halved after each block."""


def build(request: Request) -> Plan:
    """Images are [channels, height, width]; uint8 ones are scaled in the graph."""
    if request.task != "classification" or len(request.input_shape) != 3:
        raise BuildRefused("this builder classifies images [channels, height, width]")
    graph = Graph(request)
    x = scale(graph.input, 1 / 128, -1.0) if request.input_type == "uint8" else graph.input
    for channels in BLOCKS:
        x = block(x, channels)
    x = dropout(relu(dense(x, 128)), 0.3)
    return graph.plan(
        logits(x),
        epochs=20,
        batch_size=64,
        optimizer={"kind": "adamw", "learning_rate": 0.002, "weight_decay": 0.02},
        schedule={"kind": "one-cycle"},
        augmentations={"horizontal_flip": True, "crop_padding": 2},
    )


def block(x: Tensor, channels: tuple[int, ...]) -> Tensor:
    """Convolutions, each with its normalisation, then a pooling where there is something to halve."""
    for count in channels:
        x = relu(batch_norm(conv(x, count, bias=False)))
    return max_pool(x) if min(x.shape[1:]) >= 2 else x
