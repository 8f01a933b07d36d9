"""Small admitted graphs to train in tests, written node by node."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from chiron.wasm_sandbox.graph import AdmittedGraph, Parameter


class Network:
    """Collects nodes and parameters; `admitted` gives what admission would."""

    def __init__(self, input_shape: Sequence[int], dtype: int = TensorProto.FLOAT, opset: int = 17) -> None:
        self._input = helper.make_tensor_value_info("input", dtype, ["N", *input_shape])
        self._opset = opset
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._initial: list[NodeProto] = []
        self._parameters: list[Parameter] = []

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        output = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def constant(self, value: Any) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def normal(self, name: str, *shape: int, scale: float) -> str:
        """A trained parameter with normally distributed initial values."""
        self._parameters.append(Parameter(name, shape, trainable=True))
        self._initial.append(helper.make_node("RandomNormal", [], [name], shape=shape, scale=scale, mean=0.0))
        return name

    def filled(self, name: str, *shape: int, value: float = 0.0, trainable: bool = True) -> str:
        """A parameter that begins with one number."""
        self._parameters.append(Parameter(name, shape, trainable=trainable))
        tensor = numpy_helper.from_array(np.full(shape, value, np.float32))
        self._initial.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def dense(self, x: str, name: str, inputs: int, outputs: int) -> str:
        weight = self.normal(f"{name}.weight", inputs, outputs, scale=(2 / inputs) ** 0.5)
        return self.add("Gemm", x, weight, self.filled(f"{name}.bias", outputs))

    def conv(self, x: str, name: str, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> str:
        scale = (2 / (inputs * kernel * kernel)) ** 0.5
        weight = self.normal(f"{name}.weight", outputs, inputs, kernel, kernel, scale=scale)
        return self.add(
            "Conv", x, weight, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4, strides=[stride] * 2
        )

    def batch_norm(self, x: str, name: str, channels: int) -> str:
        return self.add(
            "BatchNormalization",
            x,
            self.filled(f"{name}.weight", channels, value=1.0),
            self.filled(f"{name}.bias", channels),
            self.filled(f"{name}.running_mean", channels, trainable=False),
            self.filled(f"{name}.running_var", channels, value=1.0, trainable=False),
        )

    def admitted(self, output_shape: Sequence[int]) -> AdmittedGraph:
        self._nodes[-1].output[0] = "output"
        output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", *output_shape])
        forward = helper.make_graph(self._nodes, "forward", [self._input], [output], self._constants)
        parameters = tuple(sorted(self._parameters, key=lambda parameter: parameter.name))
        made = [helper.make_tensor_value_info(p.name, TensorProto.FLOAT, p.shape) for p in parameters]
        initial = helper.make_graph(self._initial, "initialization", [], made)
        return AdmittedGraph(self._model(forward), self._model(initial), parameters, 0, 0)

    def _model(self, graph: GraphProto) -> Any:
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)], ir_version=9)


def mlp(
    inputs: int, hidden: int, outputs: int, *, output_shape: Sequence[int] | None = None
) -> AdmittedGraph:
    """Two dense layers over float32 vectors."""
    network = Network([inputs])
    network.dense(
        network.add("Relu", network.dense("input", "first", inputs, hidden)), "second", hidden, outputs
    )
    if output_shape == ():
        network.add("Squeeze", "t2", network.constant(np.asarray([1], np.int64)))
    return network.admitted((outputs,) if output_shape is None else output_shape)


def convolutional(classes: int = 10, *, opset: int = 17) -> AdmittedGraph:
    """Convolution, batch normalisation, pooling and a dense layer over uint8 images [1, 8, 8]."""
    network = Network([1, 8, 8], TensorProto.UINT8, opset)
    scaled = network.add(
        "Div", network.add("Cast", "input", to=TensorProto.FLOAT), network.constant(np.float32(16))
    )
    first = network.add("Relu", network.batch_norm(network.conv(scaled, "first", 1, 16), "norm1", 16))
    second = network.add(
        "Relu", network.batch_norm(network.conv(first, "second", 16, 32, stride=2), "norm2", 32)
    )
    network.dense(network.add("Flatten", second), "last", 32 * 16, classes)
    return network.admitted((classes,))
