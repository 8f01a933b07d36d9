"""Pretrained tensors: carried by the component, found by the graph, and refused where they do not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto
from onnxruntime import InferenceSession
from safetensors.numpy import save

from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import Assets, attach_asset, read_assets
from chiron.wasm_sandbox.errors import ComponentRefused, GraphRefused
from tests.corpus.onnx.cases import ENVELOPE, REQUEST, good, serialised

EMPTY_COMPONENT = b"\0asm\x0d\0\x01\0"
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def _asking(reference: str) -> bytes:
    model: ModelProto = good()
    model.graph.initializer[0].metadata_props.add(key="chiron.asset", value=reference)
    del model.training_info[:]
    return serialised(model)


def _refusal(reference: str, **files: bytes) -> str:
    with pytest.raises(GraphRefused) as refusal:
        admit(_asking(reference), REQUEST, ENVELOPE, assets=Assets(files))
    return str(refusal.value.code)


def test_a_parameter_begins_as_the_tensor_that_the_component_carries() -> None:
    component = attach_asset(EMPTY_COMPONENT, "backbone", save({"inner/weight": WEIGHT}))
    admitted = admit(_asking("backbone/inner/weight"), REQUEST, ENVELOPE, assets=read_assets(component))
    session = InferenceSession(serialised(admitted.initialization), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(["weight"], {})[0], WEIGHT)


def test_without_assets_there_is_a_graph_but_no_initial_value() -> None:
    admitted = admit(_asking("backbone/weight"), REQUEST, ENVELOPE)
    assert admitted.elements == 12
    assert not admitted.initialization.graph.output


def test_what_does_not_fit_is_refused() -> None:
    assert _refusal("backbone/weight") == "asset-unknown"
    assert _refusal("backbone/weight", backbone=save({"other": WEIGHT})) == "asset-unknown"
    assert _refusal("backbone/weight", backbone=b"not safetensors") == "asset-invalid"
    assert _refusal("backbone/weight", backbone=save({"weight": WEIGHT.T.copy()})) == "asset-invalid"
    assert (
        _refusal("backbone/weight", backbone=save({"weight": WEIGHT.astype(np.float64)})) == "asset-invalid"
    )
    assert (
        _refusal("backbone/weight", backbone=save({"weight": WEIGHT * np.float32(np.nan)})) == "asset-invalid"
    )


def test_other_metadata_of_a_parameter_is_refused() -> None:
    model = good()
    model.graph.initializer[0].metadata_props.add(key="location", value="/etc/passwd")
    with pytest.raises(GraphRefused) as refusal:
        admit(serialised(model), REQUEST, ENVELOPE)
    assert refusal.value.code == "feature-not-allowed"


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True), st.binary(max_size=300), max_size=5
    )
)
def test_assets_come_back_as_they_were_attached(files: dict[str, bytes]) -> None:
    component = EMPTY_COMPONENT
    for name, content in files.items():
        component = attach_asset(component, name, content)
    assert read_assets(component).files == files


@given(st.binary(max_size=200))
def test_any_sections_are_read_or_refused(data: bytes) -> None:
    try:
        read_assets(EMPTY_COMPONENT + data)
    except ComponentRefused as refusal:
        assert refusal.code == "component-malformed"  # noqa: PT017 - refusing is one of two good ends


def test_an_asset_given_twice_is_refused() -> None:
    component = attach_asset(attach_asset(EMPTY_COMPONENT, "a", b"1"), "a", b"2")
    with pytest.raises(ComponentRefused):
        read_assets(component)
