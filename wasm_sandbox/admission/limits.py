"""Every bound of graph admission, in one place."""

from pydantic import Field

from chiron.wire.contract import ContractModel

LOWEST_IR, HIGHEST_IR = 7, 10
LOWEST_OPSET, HIGHEST_OPSET = 13, 21
"""What onnxruntime-training 1.19 reads; 13 is the first opset in which all axes are inputs or stable."""


class GraphLimits(ContractModel):
    """What a graph may be made of. The envelope (parameters, bytes) comes on top.

    The defaults leave room for a ResNet-152 at 224 × 224, and end hostile graphs within a second.
    """

    graph_bytes: int = Field(default=4 * 2**20, ge=1, le=16 * 2**20)
    fields: int = Field(default=200_000, ge=1, le=2**22)
    """Protobuf fields of the model, counted before it is parsed; one costs at most some 200 bytes."""
    name_bytes: int = Field(default=256, ge=1, le=4096)
    nodes: int = Field(default=2000, ge=1, le=20_000)
    initializers: int = Field(default=2000, ge=1, le=20_000)
    """Parameters and constants."""
    node_inputs: int = Field(default=64, ge=1, le=1024)
    node_outputs: int = Field(default=16, ge=1, le=1024)
    constant_elements: int = Field(default=262_144, ge=1, le=2**24)
    """Over all constants."""
    rank: int = Field(default=6, ge=1, le=8)
    dimension: int = Field(default=2**24, ge=1, le=2**31)
    activation_bytes_per_example: int = Field(default=256 * 2**20, ge=1, le=2**36)
    """All values that the graph makes of one example."""
    activation_bytes_fixed: int = Field(default=64 * 2**20, ge=1, le=2**36)
    """All values that do not grow with the batch."""
    workspace_bytes: int = Field(default=256 * 2**20, ge=1, le=2**36)
    """The unrolled window of a convolution (im2col), which one example takes at a time."""
    initialization_ratio: int = Field(default=8, ge=1, le=64)
    """Elements that the initialization graph makes, for each element of a parameter."""
    initialization_elements: int = Field(default=65_536, ge=1, le=2**24)
    """Elements that it may make in any case (a shape, a constant)."""
