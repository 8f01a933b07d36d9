"""`chiron builder …` as an operator meets it."""

import asyncio
import json
import re
from pathlib import Path

import onnx
import pytest

from chiron.builder_kit.component import static_component
from chiron.builder_kit.packing import pack
from chiron.cli.application import main
from chiron.client.configuration import KEY_VARIABLE, URL_VARIABLE
from tests.support.owners_world import World, software_tee, world  # noqa: F401 - fixtures

EXPORTED = Path(__file__).parent / "exported"
ROOT = Path(__file__).resolve().parents[2]
MANIFEST = (ROOT / "builders" / "digits_mlp" / "manifest.json").read_bytes()
REFUSED = {
    "garbage": b"garbage",
    "core-module": b"\0asm\1\0\0\0",
    "empty-component": b"\0asm\x0d\0\1\0",
    "cut-off": static_component(b"graph", b"{}")[:200],
}


def builder(directory: Path, component: bytes) -> Path:
    """A folder with a component and a manifest."""
    directory.mkdir()
    (directory / "builder.wasm").write_bytes(component)
    (directory / "manifest.json").write_bytes(MANIFEST)
    return directory


def test_new_makes_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["builder", "new", str(tmp_path / "my-model")]) == 0
    assert "builder.py" in capsys.readouterr().err
    assert main(["builder", "new", str(tmp_path / "my-model")]) == 1
    assert "[project-invalid]" in capsys.readouterr().err


def test_build_writes_the_component_beside_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ziglang")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = tmp_path / "logistic.wasm"
    project = str(ROOT / "builders" / "logistic_c")
    assert main(["builder", "build", project, "--output", str(output), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(output), "bytes": output.stat().st_size}


def test_check_tells_what_a_builder_asks_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = builder(tmp_path / "static", static_component(b"graph", b"{}"))
    assert main(["builder", "check", str(directory)]) == 0
    told = capsys.readouterr().err
    assert "it asks data owners for: nothing" in told
    assert "at most 80,000 parameters" in told
    assert main(["builder", "check", str(directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["capabilities"] == []


@pytest.mark.parametrize("component", REFUSED.values(), ids=REFUSED)
async def test_check_says_what_the_gateway_says(
    component: bytes,
    tmp_path: Path,
    world: World,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(URL_VARIABLE, world.running.url)
    monkeypatch.setenv(KEY_VARIABLE, world.operator_key)
    directory = str(builder(tmp_path / "refused", component))
    assert await asyncio.to_thread(main, ["builder", "check", directory]) == 1
    checked = capsys.readouterr().err
    assert await asyncio.to_thread(main, ["builder", "upload", directory]) == 1
    assert checked == capsys.readouterr().err.replace("the gateway answered 422: ", "")
    assert "error [component-" in checked


def test_a_project_that_is_not_built_yet_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["builder", "new", str(tmp_path / "my-model")]) == 0
    assert main(["builder", "check", str(tmp_path / "my-model")]) == 1
    assert "has no builder.wasm yet: `chiron builder build" in capsys.readouterr().err


def test_a_manifest_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = builder(tmp_path / "static", static_component(b"graph", b"{}"))
    (directory / "manifest.json").write_text('{"name": "Not A Name"}')
    assert main(["builder", "check", str(directory)]) == 1
    assert "[configuration-invalid]" in capsys.readouterr().err


def test_pack_and_run_show_graph_and_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "digits"
    model = str(EXPORTED / "convolutional-old.onnx")
    assert main(["builder", "pack", model, "--weights", "fresh", "--out", str(directory)]) == 0
    assert main(["builder", "check", str(directory)]) == 0
    assert re.search(
        r"classification of \S+ [0-9× ]+: [0-9,]+ parameters, it trains", capsys.readouterr().err
    )
    arguments = [
        "builder",
        "run",
        str(directory),
        "--data",
        "sklearn:digits",
        "--rows",
        "600",
        "--steps",
        "60",
    ]
    assert main(arguments) == 0
    told = capsys.readouterr().err
    assert "step    60" in told
    assert "train loss  █" in told
    onnx.checker.check_model(onnx.load(directory / "run" / "model.onnx"), full_check=True)
    assert onnx.load(directory / "run" / "plan.onnx").graph.node
    assert json.loads((directory / "run" / "recipe.json").read_text())["epochs"] == 10


def test_run_tells_the_author_why_a_graph_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = pack(EXPORTED / "transformer.onnx", "transformer", b"{}")
    directory = builder(tmp_path / "transformer", packed.component)
    assert main(["builder", "run", str(directory), "--data", "sklearn:iris"]) == 1
    told = capsys.readouterr().err
    assert "[input-mismatch]" in told
    assert "shape is not [N, …]" in told


def test_check_fails_where_a_job_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = pack(EXPORTED / "transformer.onnx", "transformer", b"{}")
    directory = builder(tmp_path / "transformer", packed.component)
    other = {"task": "classification", "input_shape": [4], "input_dtype": "float32", "classes": 3}
    manifest = packed.manifest.model_dump(mode="json") | {"shapes": [other]}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    assert main(["builder", "check", str(directory)]) == 1
    assert "[input-mismatch]" in capsys.readouterr().err
