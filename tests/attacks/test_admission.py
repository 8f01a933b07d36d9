"""Graphs that crash admission: nothing that a native library raises on one is anything but a refusal."""

import struct
from types import ModuleType

import onnx
import pytest
from onnx import helper

from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.assets import Assets
from chiron.wasm_sandbox.errors import GraphRefused, PlanRefused
from chiron.wasm_sandbox.recipe import parse_recipe
from tests.corpus.onnx.cases import ENVELOPE, REQUEST, good, serialised

ANYTHING = [
    MemoryError("bad_alloc"),
    OverflowError("int too large"),
    RecursionError("too deep"),
    TypeError("no"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    struct.error("short"),
    type("Foreign", (Exception,), {})("of a library"),
]


@pytest.mark.parametrize("raised", ANYTHING, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("library", "function"),
    [
        (onnx.shape_inference, "infer_node_outputs"),
        (onnx.numpy_helper, "to_array"),
        (onnx.helper, "make_tensor_type_proto"),
        (onnx.helper, "make_model"),
    ],
)
def test_whatever_a_library_raises_on_a_graph_is_a_refusal(
    raised: Exception, library: ModuleType, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    shape = helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [-1, 3])
    nodes = [
        helper.make_node("MatMul", ["input", "weight"], ["scores"]),
        helper.make_node("Reshape", ["scores", "shape"], ["output"]),
    ]
    content = serialised(good(nodes, constants=[shape]))
    monkeypatch.setattr(library, function, fail)
    with pytest.raises(GraphRefused) as refusal:
        admit(content, REQUEST, ENVELOPE)
    assert refusal.value.code == "graph-invalid"
    assert "library" not in str(refusal.value)


def test_pretrained_tensors_that_are_none_are_a_refusal() -> None:
    model = good()
    model.graph.initializer[0].metadata_props.add(key="chiron.asset", value="file/tensor")
    del model.training_info[:]
    for content in (b"", b"\xff" * 8, b"\x02" + bytes(7) + b"{}", b"\x10" + bytes(7) + b'{"tensor":[[]]} '):
        with pytest.raises(GraphRefused) as refusal:
            admit(serialised(model), REQUEST, ENVELOPE, assets=Assets({"file": content}))
        assert refusal.value.code in ("asset-invalid", "asset-unknown")


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 60_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"optimizer": {"kind": "sgd", "learning_rate": 1e999}}',
        b'{"frozen": ["[[[[!--&&~~||"], "batch_size": 1e308}',
        b"\xff\xfe",
    ],
)
def test_a_recipe_that_no_parser_was_made_for_is_a_refusal(text: bytes) -> None:
    with pytest.raises(PlanRefused) as refusal:
        parse_recipe(text)
    assert refusal.value.code == "recipe-invalid"
