"""Strict and clamped forms of single operators: loss, outputs, gradients, predictions are the same."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from chiron.runtime.training.forms import in_form
from chiron.runtime.training.graphs import inference_model
from chiron.runtime.training.layout import FlatLayout
from chiron.runtime.training.losses import TargetEncoder
from chiron.runtime.training.rewrites import finish_strict
from chiron.runtime.training.sessions import ExportedModel, GradientSession
from chiron.runtime.training.training_model import training_model
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.errors import GraphRefused
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.recipe import MeanSquaredError, Recipe
from chiron.wire.contract import Envelope, InputType, Oblivious, Task
from chiron.wire.jobs import JobSpec
from tests.support.operator_uses import COLUMNS, NEWER, USES, Use, model_of
from tests.support.specs import dataset_manifest, job_spec

ROWS, PARAMETERS = 5, 1000
RECIPE = Recipe(loss=MeanSquaredError())
MAPS = (2, 7, 7)
REFUSED = {"Cos", "Log", "Pow", "Sin"}
"""Uses that have no strict form."""


def _pool(**attributes: object) -> Use:
    return Use(shape=MAPS, attributes={"kernel_shape": [3, 3], **attributes})


def _power(exponent: float) -> Use:
    return Use(inputs=("positive", "c"), constants={"c": np.float32(exponent)})


def _rows(*nodes: NodeProto) -> Use:
    """Indices are made of the input; some lie below 0, or outside."""
    index = helper.make_node("Cast", ["input"], ["index"], to=TensorProto.INT64)
    column = helper.make_node("Unsqueeze", ["a", "last"], ["column"])
    scaled = helper.make_node("Mul", ["column", "rows"], ["y"])
    constants = {
        "last": np.array([-1], np.int64),
        "depth": np.array(4, np.int64),
        "values": np.array([0.25, 2], np.float32),
    }
    used = {name: value for name, value in constants.items() if name == "last" or len(nodes) > 1}
    then = [index, *nodes, column, scaled]
    return Use(outputs=("a",), then=then, parameters={"p": (4, 3)}, constants=used)


_FOUND = helper.make_node("Gather", ["p", "index"], ["rows"])
_HOT = helper.make_node("OneHot", ["index", "depth", "values"], ["hot"], axis=-1)
_SUMMED = helper.make_node("MatMul", ["hot", "p"], ["rows"])
_AXES = (1, -1)
_HALVING = {"kernel_shape": [2, 2], "strides": [2, 2]}
FORMS: dict[str, tuple[str, Use]] = {
    # Of two values of one shape: the engine does not differentiate a Where that broadcasts an operand.
    "Where": ("Where", Use(inputs=("mask", "x", "absolute"))),
    **{f"Pow {exponent}": ("Pow", _power(exponent)) for exponent in (0.5, 1, 2, 3)},
    **{f"LogSoftmax {axis}": ("LogSoftmax", Use(shape=(3, 4), attributes={"axis": axis})) for axis in _AXES},
    "MaxPool 2 × 2": ("MaxPool", Use(shape=(2, 6, 6), attributes=_HALVING)),
    "MaxPool that overlaps": ("MaxPool", _pool(strides=[2, 2])),
    "MaxPool with pads": ("MaxPool", _pool(pads=[1, 1, 1, 1])),
    "MaxPool with pads at one end": ("MaxPool", _pool(pads=[0, 1, 1, 0], strides=[1, 2])),
    "MaxPool dilated": ("MaxPool", _pool(dilations=[2, 2])),
    "MaxPool SAME_UPPER": ("MaxPool", _pool(auto_pad="SAME_UPPER", strides=[2, 2])),
    "MaxPool SAME_LOWER": ("MaxPool", _pool(auto_pad="SAME_LOWER", strides=[2, 2])),
    "Max of three": ("Max", Use(inputs=("x", "p", "input"), parameters={"p": (COLUMNS,)})),
    "Min of three": ("Min", Use(inputs=("x", "p", "input"), parameters={"p": (COLUMNS,)})),
    "Max of one": ("Max", Use(inputs=("x",))),
    "Gather by data": ("Identity", _rows(_FOUND)),
    "OneHot": ("Identity", _rows(_HOT, _SUMMED)),
}
CASES = {**{name: (name, use) for name, use in USES.items()}, **FORMS}
CASES |= {f"{name}, opset 18": (name, use) for name, use in NEWER.items()}
CASES |= {f"{name}, opset 18": (operator, replace(use, opset=18)) for name, (operator, use) in FORMS.items()}


@dataclass(frozen=True)
class Measured:
    """What comes of one graph over the same rows."""

    loss: float
    outputs: NDArray[np.float32]
    gradient: NDArray[np.float32]
    predictions: NDArray[np.float32]


@pytest.mark.parametrize("oblivious", Oblivious)
@pytest.mark.parametrize("name", CASES)
def test_the_form_of_an_operator_changes_no_number(name: str, oblivious: Oblivious) -> None:
    operator, use = CASES[name]
    data = model_of(operator, use).SerializeToString()
    dataset = dataset_manifest(
        input_shape=use.shape, input_dtype=InputType.FLOAT32, classes=0, task=Task.REGRESSION, target_shape=()
    )
    spec = job_spec(dataset=dataset, parameters=PARAMETERS, oblivious=oblivious)
    envelope = Envelope(max_parameters=PARAMETERS)
    graph = admit(data, spec.build_request(), envelope)
    if oblivious is Oblivious.STRICT and name in REFUSED:
        with pytest.raises(GraphRefused, match="addresses"):
            admit(data, spec.build_request(), envelope, oblivious=oblivious)
        return
    found, wanted = _measured(in_form(graph, oblivious), spec, oblivious), _measured(graph, spec)
    for part in Measured.__dataclass_fields__:
        expected = np.asarray(getattr(wanted, part))
        assert np.isfinite(expected).all()
        near = 2e-5 * float(np.abs(expected).max())
        np.testing.assert_allclose(getattr(found, part), expected, rtol=2e-4, atol=near, err_msg=part)


def _measured(graph: AdmittedGraph, spec: JobSpec, oblivious: Oblivious | None = None) -> Measured:
    """Without `oblivious`: of the graph as it was admitted, and no pass applied to it."""
    request, layout = spec.build_request(), FlatLayout(graph.parameters)
    random = np.random.default_rng(5)
    vector = random.normal(size=layout.elements).astype(np.float32)
    # Whole numbers from -3 to 3: they are indices, too.
    x = random.integers(-3, 4, (ROWS, *spec.dataset.input_shape)).astype(np.float32)
    targets = random.normal(size=ROWS).astype(np.float32)
    built = training_model(
        graph, RECIPE, request, oblivious=oblivious or Oblivious.CLAMPED, rewritten=oblivious is not None
    )
    gradient = np.zeros_like(vector)
    session = GradientSession(built, layout, vector, gradient, 1)
    encoder = TargetEncoder(RECIPE.loss, request)
    loss, outputs = session.run(x, encoder.encode(encoder.dense(targets)), {})
    exported = inference_model(graph, layout.views(vector), RECIPE, request.task)
    if oblivious is Oblivious.STRICT:
        finish_strict(exported)
    predictions = ExportedModel(exported.SerializeToString(), spec).predict(x)
    return Measured(float(loss), outputs.copy(), gradient, predictions)
