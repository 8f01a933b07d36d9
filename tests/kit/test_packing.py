"""Models that PyTorch and scikit-learn exported become builders that answer the same model."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from chiron.builder_kit.errors import ModelUnsuitable
from chiron.builder_kit.packing import Packed, PackOptions, Weights, pack
from chiron.builder_kit.rehearsal import Rehearsal, Scale, rehearse
from chiron.client.datasets.opening import builtin_source
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import read_assets
from chiron.wasm_sandbox.capability_data import CapabilityData, DatasetShape
from chiron.wasm_sandbox.compilation import inspect_component
from chiron.wasm_sandbox.graph import AdmittedGraph
from chiron.wasm_sandbox.sandbox import Sandbox
from chiron.wire.contract import BuildRequest, CapabilityGrants, InputType, Task

EXPORTED = Path(__file__).parent / "exported"
CLASSIFY = b'{"epochs": 20, "batch_size": 16, "optimizer": {"kind": "adamw", "learning_rate": 0.05}}'
REGRESS = b'{"loss": {"kind": "mse"}, "epochs": 20}'


def _request(packed: Packed, shape: tuple[int, ...], **facts: Any) -> BuildRequest:
    return BuildRequest(
        task=next(iter(packed.manifest.tasks)),
        input_shape=shape,
        input_dtype=facts.get("dtype", InputType.FLOAT32),
        classes=facts.get("classes", 0),
        max_parameters=packed.parameters,
    )


def _admitted(packed: Packed, request: BuildRequest) -> AdmittedGraph:
    """What the builder answers in the real sandbox, admitted with its own envelope and assets."""
    data = CapabilityData(DatasetShape(10, request.input_shape, (), request.classes))
    plan = Sandbox().build(packed.component, request, CapabilityGrants(granted=frozenset()), data, seed=1)
    assets = read_assets(packed.component)
    return admit(plan.graph, request, packed.manifest.envelope, assets=assets)


def _initial(graph: AdmittedGraph) -> dict[str, NDArray[np.float32]]:
    model = graph.initialization.SerializeToString()
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {}), strict=True))


def _scores(graph: AdmittedGraph, x: NDArray[Any]) -> NDArray[np.float32]:
    model = graph.with_values(_initial(graph)).SerializeToString()
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["output"], {"input": x})[0])


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _original(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    model = onnx.load(path)
    for node in model.graph.node:  # the old exporter's training mode, off
        if node.op_type == "Dropout":
            del node.input[2:]
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            for attribute in node.attribute:
                if attribute.name == "training_mode":
                    attribute.i = 0
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


@pytest.mark.parametrize("name", ["convolutional-old", "convolutional-new"])
def test_pytorchs_convolutional_network_begins_as_it_was_exported(name: str) -> None:
    path = EXPORTED / f"{name}.onnx"
    packed = pack(path, "convolutional", CLASSIFY)
    x = np.random.default_rng(1).normal(size=(4, 1, 8, 8)).astype(np.float32)
    graph = _admitted(packed, _request(packed, (1, 8, 8), classes=10))
    np.testing.assert_allclose(_scores(graph, x), _original(path, x), rtol=1e-4, atol=1e-5)
    assert [p.name for p in graph.parameters if not p.trainable] == (
        ["maps.1.running_mean", "maps.1.running_var"] if name.endswith("old") else []
    )


def test_pytorchs_transformer_begins_as_it_was_exported_without_its_softmax() -> None:
    path = EXPORTED / "transformer.onnx"
    packed = pack(path, "transformer", CLASSIFY)
    x = np.random.default_rng(1).normal(size=(6, 5, 8)).astype(np.float32)
    graph = _admitted(packed, _request(packed, (5, 8), classes=3))
    np.testing.assert_allclose(_softmax(_scores(graph, x)), _original(path, x), rtol=1e-4, atol=1e-5)


def test_images_are_taken_as_bytes() -> None:
    packed = pack(EXPORTED / "convolutional-new.onnx", "images", CLASSIFY, PackOptions(images=True))
    x = np.random.default_rng(1).integers(0, 256, (4, 1, 8, 8)).astype(np.uint8)
    graph = _admitted(packed, _request(packed, (1, 8, 8), classes=10, dtype=InputType.UINT8))
    expected = _original(EXPORTED / "convolutional-new.onnx", x.astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(_scores(graph, x), expected, rtol=1e-3, atol=1e-4)


def test_fresh_weights_are_drawn_and_none_of_the_old_travels() -> None:
    path = EXPORTED / "convolutional-old.onnx"
    kept = pack(path, "convolutional", CLASSIFY)
    fresh = pack(path, "convolutional", CLASSIFY, PackOptions(weights=Weights.FRESH))
    old = numpy_helper.to_array(
        next(t for t in onnx.load(path).graph.initializer if t.name == "scores.weight")
    )
    some = old.reshape(-1)[:4].tobytes()
    assert some in kept.component
    assert some not in fresh.component
    values = _initial(_admitted(fresh, _request(fresh, (1, 8, 8), classes=10)))
    # He: variance 2 / fan-in; the exporter stores this matrix turned, [10, 32].
    assert values["scores.weight"].shape == (10, 32)
    assert values["scores.weight"].std() == pytest.approx((2 / 32) ** 0.5, rel=0.2)
    assert set(np.unique(values["maps.1.weight"])) == {1.0}
    assert set(np.unique(values["maps.1.bias"])) == {0.0}


def _fitted() -> Iterator[Any]:
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    iris, cancer = load_iris(return_X_y=True), load_breast_cancer(return_X_y=True)
    diabetes = load_diabetes(return_X_y=True)
    perceptron = MLPClassifier(hidden_layer_sizes=(8,), max_iter=20, random_state=0)
    regressor = MLPRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0)
    yield "logistic", make_pipeline(StandardScaler(), LogisticRegression()), iris, Task.CLASSIFICATION
    yield "two-classes", make_pipeline(StandardScaler(), LogisticRegression()), cancer, Task.CLASSIFICATION
    yield "perceptron", make_pipeline(StandardScaler(), perceptron), iris, Task.CLASSIFICATION
    yield "ridge", make_pipeline(StandardScaler(), Ridge()), diabetes, Task.REGRESSION
    yield "perceptron-values", regressor, diabetes, Task.REGRESSION


FITTED = list(_fitted())


@pytest.mark.filterwarnings("ignore")  # scikit-learn's about few iterations
@pytest.mark.parametrize(("name", "model", "data", "task"), FITTED, ids=lambda value: str(value)[:20])
def test_scikit_learns_models_begin_as_they_were_fitted(
    name: str, model: Any, data: Any, task: Task, tmp_path: Path
) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    x, y = np.asarray(data[0], np.float32), data[1]
    model.fit(x, y)
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(skl2onnx.to_onnx(model, x[:1]).SerializeToString())
    recipe = CLASSIFY if task is Task.CLASSIFICATION else REGRESS
    packed = pack(path, name, recipe, PackOptions(task=task))
    classes = len(set(y)) if task is Task.CLASSIFICATION else 0
    scores = _scores(_admitted(packed, _request(packed, x.shape[1:], classes=classes)), x)
    if task is Task.CLASSIFICATION:
        np.testing.assert_allclose(_softmax(scores), model.predict_proba(x), rtol=1e-2, atol=1e-4)
    else:
        assert scores.shape == (len(x),)
        np.testing.assert_allclose(scores, model.predict(x), rtol=1e-3, atol=1e-2)


async def test_a_packed_model_learns(tmp_path: Path) -> None:
    weights = {"weight": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)}
    path = _linear(tmp_path / "iris.onnx", weights)
    packed = pack(path, "iris", CLASSIFY, PackOptions(weights=Weights.FRESH))
    source = builtin_source("sklearn:iris")
    assert inspect_component(packed.component).capabilities == ()
    result: Rehearsal = await rehearse(
        packed.component, packed.manifest, source, scale=Scale(steps=200, reports=4)
    )
    assert (result.reports[-1].validation_accuracy or 0) >= 0.85


def _linear(path: Path, weights: dict[str, NDArray[np.float32]], operator: str = "Softmax") -> Path:
    nodes = [
        helper.make_node("Gemm", ["x", "weight", "bias"], ["scores"]),
        helper.make_node(operator, ["scores"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        initializer=[numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_what_cannot_be_packed_says_why(tmp_path: Path) -> None:
    weights = {"weight": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)}
    path = _linear(tmp_path / "model.onnx", weights, operator="Hardmax")
    with pytest.raises(ModelUnsuitable, match=r"\[operator-not-allowed\].*Hardmax"):
        pack(path, "model", CLASSIFY)
    path.write_bytes(b"not a model")
    with pytest.raises(ModelUnsuitable, match="cannot be read"):
        pack(path, "model", CLASSIFY)
    with pytest.raises(ModelUnsuitable, match="cannot be read"):
        pack(tmp_path / "nothing.onnx", "model", CLASSIFY)


def test_trees_are_refused(tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.tree import DecisionTreeClassifier

    x, y = np.eye(4, dtype=np.float32), np.arange(4)
    model = skl2onnx.to_onnx(DecisionTreeClassifier().fit(x, y), x[:1])
    path = tmp_path / "tree.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelUnsuitable, match="TreeEnsemble"):
        pack(path, "tree", CLASSIFY)


def test_weights_beyond_a_components_size_must_be_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chiron.builder_kit.packing.MAX_COMPONENT_BYTES", 2**20)  # 64 MiB take long to write
    wide = {"weight": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)}
    path = _linear(tmp_path / "wide.onnx", wide)
    model = onnx.load(path)
    rows = 50_000
    model.graph.node.insert(0, helper.make_node("Gemm", ["x", "up"], ["wide"]))
    model.graph.node[1].input[:] = ["wide", "weight", "bias"]
    raw = struct.pack("<f", 0.5) * (4 * rows)
    model.graph.initializer[0].CopyFrom(
        TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[rows, 3], raw_data=raw[: 12 * rows])
    )
    model.graph.initializer.append(
        TensorProto(name="up", data_type=TensorProto.FLOAT, dims=[4, rows], raw_data=raw)
    )
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelUnsuitable, match="fresh weights are not carried"):
        pack(path, "wide", CLASSIFY)
    packed = pack(path, "wide", CLASSIFY, PackOptions(weights=Weights.FRESH))
    assert packed.parameters == 7 * rows + 3
    assert len(packed.component) < 4096
