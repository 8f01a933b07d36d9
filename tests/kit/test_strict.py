"""`chiron builder check` tells what `oblivious: strict` would do to a graph: from the forms themselves."""

import json
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from chiron.builder_kit.component import static_component
from chiron.cli.application import main
from tests.support.graphs import finished, graph_with_node
from tests.support.specs import builder_manifest

WORDS, WIDTH, INDICES = 20, 5, 3
CLASSES = {"task": "classification", "input_shape": [INDICES], "input_dtype": "float32", "classes": WIDTH}
NUMBER = {"task": "regression", "input_shape": [4], "input_dtype": "float32"}


def words() -> bytes:
    """The mean of a table's rows, by numbers that data decide."""
    nodes = [
        helper.make_node("Cast", ["input"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["output"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", INDICES])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", WIDTH])],
    )
    graph.initializer.append(TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[WORDS, WIDTH]))
    return finished(graph, {"table": [WORDS, WIDTH]})


def project(folder: Path, graph: bytes, shape: dict[str, Any], **recipe: Any) -> str:
    """A builder of this one graph, in its folder."""
    loss = "mse" if shape is NUMBER else "cross-entropy"
    plan = json.dumps({"version": 1, "loss": {"kind": loss}, "steps": 1} | recipe).encode()
    manifest = builder_manifest(tasks=[shape["task"]], shapes=[shape])
    folder.mkdir()
    (folder / "builder.wasm").write_bytes(static_component(graph, plan))
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return str(folder)


def told(directory: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """What check says of the one shape, as JSON."""
    assert main(["builder", "check", directory, "--json"]) == 0
    (strict,) = json.loads(capsys.readouterr().out)["strict"]
    return strict


def test_nodes_that_strict_changes_are_told_with_their_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = project(tmp_path / "words", words(), CLASSES)
    strict = told(directory, capsys)
    (gather,) = strict["forms"]
    assert strict["refused"] is None
    assert (gather["node"], gather["operator"]) == ("rows", "Gather")
    assert gather["form"] == "gathers as products"
    assert gather["multiply_adds"] == INDICES * WORDS * WIDTH
    assert gather["elements"] >= INDICES * WORDS
    assert main(["builder", "check", directory]) == 0
    assert "strict: Gather of 'rows': gathers as products; " in capsys.readouterr().err


def test_what_several_passes_change_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = graph_with_node("Min", ["x", "input"])
    (least,) = told(project(tmp_path / "least", graph, NUMBER), capsys)["forms"]
    assert (least["node"], least["operator"]) == ("y", "Min")
    assert least["form"] == "minima as maxima, maxima by comparison, choices as products"
    assert least["elements"] > 0
    assert least["multiply_adds"] == 0


def test_an_operator_without_a_strict_form_is_told_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = graph_with_node("Sin", ["x"])
    directory = project(tmp_path / "waves", graph, NUMBER)
    refused = {"refused": "addresses-depend-on-data", "detail": "Sin", "forms": []}
    assert told(directory, capsys) == refused
    assert main(["builder", "check", directory]) == 0
    assert "strict: it is refused [addresses-depend-on-data]: Sin" in capsys.readouterr().err


def test_a_graph_without_such_nodes_runs_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = graph_with_node("Relu", ["x"])
    directory = project(tmp_path / "plain", graph, NUMBER)
    assert main(["builder", "check", directory]) == 0
    assert "strict: it runs as it is" in capsys.readouterr().err


def test_a_recipe_that_strict_refuses_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = graph_with_node("Relu", ["x"])
    stop = {"early_stop": {"patience": 2}}
    strict = told(project(tmp_path / "stops", graph, NUMBER, **stop), capsys)
    assert strict["refused"] == "recipe-invalid"
    assert "learns to its end" in strict["detail"]
