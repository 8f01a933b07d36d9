"""Write builders: draw an ONNX graph layer by layer, and say how to train it.

    from chiron_builder import Graph, Plan, Request, dense, logits, relu, scale

    def build(request: Request) -> Plan:
        graph = Graph(request)
        x = scale(graph.input, 1 / 255)
        x = relu(dense(x, 64))
        return graph.plan(logits(x), epochs=20)

Plain Python without dependencies, so that it can be compiled to WebAssembly with the builder.
"""

from .graph import BuildRefused, Graph, Tensor
from .initial import GLOROT, HE, ONES, ZEROS, Asset, Constant, Glorot, He, Initial, Normal, Uniform
from .layers import (
    average_pool,
    batch_norm,
    cast,
    concat,
    conv,
    dense,
    dropout,
    embedding,
    embedding_bag,
    flatten,
    gelu,
    global_average_pool,
    layer_norm,
    logits,
    max_pool,
    one_hot,
    relu,
    reshape,
    residual,
    scale,
    sigmoid,
    standardise,
    tanh,
    transpose,
)
from .onnx import ElementType
from .request import Plan, Request, Trial

__all__ = [
    "GLOROT",
    "HE",
    "ONES",
    "ZEROS",
    "Asset",
    "BuildRefused",
    "Constant",
    "ElementType",
    "Glorot",
    "Graph",
    "He",
    "Initial",
    "Normal",
    "Plan",
    "Request",
    "Tensor",
    "Trial",
    "Uniform",
    "average_pool",
    "batch_norm",
    "cast",
    "concat",
    "conv",
    "dense",
    "dropout",
    "embedding",
    "embedding_bag",
    "flatten",
    "gelu",
    "global_average_pool",
    "layer_norm",
    "logits",
    "max_pool",
    "one_hot",
    "relu",
    "reshape",
    "residual",
    "scale",
    "sigmoid",
    "standardise",
    "tanh",
    "transpose",
]
