"""The operator table's promise: onnxruntime-training differentiates every operator of the trained part."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.capi._pybind_state import GradientGraphBuilder, get_optimized_model

from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.admission.operators import OPERATORS, Part
from chiron.wire.contract import BuildRequest, Envelope, InputType, Task
from tests.support.operator_uses import NEWER, USES, Use, model_of

ROWS = 3


_APART = {"BatchNormalization", "Dropout"}
"""The runtime puts them into training mode; their gradients are tested with the learner."""


def test_every_operator_of_the_trained_part_is_used() -> None:
    trained = {name for name, operator in OPERATORS.items() if operator.part is Part.TRAINED}
    assert trained == USES.keys() | _APART


@pytest.mark.parametrize(
    ("operator", "use"), [*USES.items(), *NEWER.items()], ids=[*USES, *(f"{name}-18" for name in NEWER)]
)
def test_gradient_of_an_admitted_use_is_what_differences_say(operator: str, use: Use) -> None:
    # The same graph that is admitted (opset 21 too, below) is differentiated and compared numerically.
    model = model_of(operator, use)
    request = BuildRequest(
        task=Task.REGRESSION, input_shape=use.shape, input_dtype=InputType.FLOAT32, max_parameters=100
    )
    admitted = admit(model.SerializeToString(), request, Envelope(max_parameters=100))
    random = np.random.default_rng(7)
    values = {p.name: _away_from_zero(random, p.shape) for p in admitted.parameters}
    x = _away_from_zero(random, (ROWS, *use.shape))
    forward = admitted.with_values(values)
    run, gradients = _differentiated(forward, list(values))
    loss, *found = run({"input": x, **values})
    assert np.isfinite(loss).all()
    for name, gradient in zip(gradients, found, strict=True):
        direction = random.normal(size=values[name].shape).astype(np.float32)
        step = np.float32(1e-2)
        above = run({"input": x, **values, name: values[name] + step * direction})[0]
        below = run({"input": x, **values, name: values[name] - step * direction})[0]
        expected = (float(above) - float(below)) / (2 * float(step))
        told = float(np.sum(gradient * direction))
        assert told == pytest.approx(expected, rel=0.05, abs=0.05), name


def _away_from_zero(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Differences must not step over the corner of an absolute value."""
    drawn = random.normal(size=shape).astype(np.float32)
    return (drawn + 0.5 * np.sign(drawn)).astype(np.float32)


def _differentiated(forward: ModelProto, parameters: list[str]) -> tuple[Any, list[str]]:
    """A function from feeds to loss and gradients, and the gradients' parameters in order."""
    forward.ir_version = 9
    forward.graph.output[0].name = "output"
    forward.graph.node.append(helper.make_node("ReduceSum", ["output"], ["loss"], keepdims=0))
    del forward.graph.output[:]
    forward.graph.output.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))
    for tensor in [t for t in forward.graph.initializer if t.name in parameters]:
        forward.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        forward.graph.initializer.remove(tensor)
    options = SessionOptions()
    options.log_severity_level = 3
    optimized = get_optimized_model(forward.SerializeToString(), set(parameters), options)
    builder = GradientGraphBuilder(optimized, {"loss"}, set(parameters), "loss", options)
    builder.build()
    gradient = ModelProto.FromString(builder.get_model())
    gradient.ir_version = 9
    names = [name for name in parameters if f"{name}_grad" in {o.name for o in gradient.graph.output}]
    assert names == parameters
    session = InferenceSession(gradient.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(feeds: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        inputs = {value.name for value in session.get_inputs()}
        fed = {name: value for name, value in feeds.items() if name in inputs}
        for value in session.get_inputs():
            fed.setdefault(value.name, np.ones([], np.float32))
        return list(session.run(["loss", *(f"{name}_grad" for name in parameters)], fed))

    return run, names
