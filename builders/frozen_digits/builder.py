"""Fine-tuning: convolutions that were trained before stay as they are, and only the last layer learns.

`assets/trunk.safetensors`, trained on the digits 0 to 4 by `assets/pretrain.py`, travels in the component.
"""

from chiron_builder import (
    Asset,
    BuildRefused,
    Graph,
    Plan,
    Request,
    Tensor,
    conv,
    logits,
    max_pool,
    relu,
    reshape,
    scale,
)


def build(request: Request) -> Plan:
    """For images of one channel, 8 × 8."""
    if request.task != "classification" or request.input_shape[-2:] != (8, 8):
        raise BuildRefused("this builder classifies images of 8 × 8")
    graph = Graph(request)
    x = scale(graph.input, 1 / 16) if request.input_type == "uint8" else graph.input
    x = trunk(reshape(x, [1, 8, 8]))
    return graph.plan(
        logits(x),
        frozen=["trunk*"],
        epochs=30,
        batch_size=32,
        optimizer={"kind": "adamw", "learning_rate": 0.01},
    )


def trunk(x: Tensor) -> Tensor:
    """Two convolutions whose weights are pretrained."""
    for layer, channels in (("trunk1", 8), ("trunk2", 16)):
        weight = Asset(f"trunk/{layer}.weight")
        x = relu(conv(x, channels, bias=False, initial=weight, name=layer))
    return max_pool(x)
