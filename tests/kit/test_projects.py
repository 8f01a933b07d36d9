"""Projects: made, read, built, cached; and what is wrong with one is said."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from chiron.builder_kit.build import build_project
from chiron.builder_kit.component import static_component
from chiron.builder_kit.errors import CompilationFailed, KitError, ProjectInvalid
from chiron.builder_kit.project import Language, new_project, read_project
from chiron.wasm_sandbox.assets import read_assets
from chiron.wasm_sandbox.compilation import inspect_component

ROOT = Path(__file__).resolve().parents[2]
TRAPPING = """
#include "chiron_builder.h"
chiron_answer chiron_build(const chiron_request *request) { (void)request; __builtin_trap(); }
"""


def c_project(directory: Path, source: str = TRAPPING, settings: str = "capabilities = []\n") -> Path:
    """A small project in C, which compiles in a second."""
    directory.mkdir()
    manifest = json.loads((ROOT / "builders" / "logistic_c" / "manifest.json").read_text())
    (directory / "builder.c").write_text(source)
    (directory / "builder.toml").write_text(settings)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def test_a_new_project_is_complete_and_named_after_its_directory(tmp_path: Path) -> None:
    made = new_project(tmp_path / "my-model")
    assert sorted(path.name for path in made) == [
        ".gitignore",
        "README.md",
        "builder.py",
        "builder.toml",
        "manifest.json",
    ]
    project = read_project(tmp_path / "my-model")
    assert (project.manifest.name, project.language) == ("my-model", Language.PYTHON)
    assert not any("{{" in path.read_text() for path in made)


@pytest.mark.parametrize("name", ["My Model", "-x", "ä", "a" * 64])
def test_a_project_has_a_builders_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProjectInvalid, match="no name for a builder"):
        new_project(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ProjectInvalid, match="exists already"):
        new_project(tmp_path / "mine")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("builder.toml", "capabilities = [", "builder.toml"),
        ("builder.toml", 'capabilities = ["network"]', "capabilities"),
        ("builder.toml", "network = true", "network"),
        ("builder.toml", '[assets]\nx = "/etc/passwd"', "assets"),
        ("builder.toml", '[assets]\nx = "absent.safetensors"', "there is no file"),
        ("manifest.json", "{}", "manifest.json"),
        ("manifest.json", "\xff\xfe", "manifest.json"),
    ],
)
def test_what_is_wrong_with_a_project_is_said(tmp_path: Path, file: str, content: str, said: str) -> None:
    new_project(tmp_path / "mine")
    (tmp_path / "mine" / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(ProjectInvalid, match=said):
        build_project(tmp_path / "mine", cache=tmp_path / "cache")


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectInvalid, match="needs one of"):
        read_project(tmp_path)


def test_the_cache_knows_what_went_into_a_component(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    cache, project = tmp_path / "cache", c_project(tmp_path / "mine")
    component = build_project(project, cache=cache)
    assert inspect_component(component).capabilities == ()
    (kept,) = cache.iterdir()
    kept.write_bytes(b"from the cache")
    assert build_project(project, cache=cache) == b"from the cache"
    (project / "builder.c").write_text(TRAPPING + "/* changed */")
    assert build_project(project, cache=cache) == component, "the code is the same, and was compiled again"
    assert len(list(cache.iterdir())) == 2


def test_assets_are_carried_and_the_component_stays_a_builder(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    project = c_project(tmp_path / "mine", settings='[assets]\nbackbone = "backbone.safetensors"\n')
    content = save({"weight": np.ones((4, 3), np.float32)})
    (project / "backbone.safetensors").write_bytes(content)
    component = build_project(project, cache=tmp_path / "cache")
    assert read_assets(component).files == {"backbone": content}
    assert inspect_component(component).capabilities == ()
    (project / "backbone.safetensors").write_bytes(content + b" ")
    with_other_asset = build_project(project, cache=tmp_path / "cache")
    assert read_assets(with_other_asset).files == {"backbone": content + b" "}


def test_what_the_compiler_says_is_told(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    with pytest.raises(CompilationFailed, match=r"builder\.c:1"):
        build_project(c_project(tmp_path / "mine", source="nonsense"), cache=tmp_path / "cache")


def test_builders_in_c_ask_for_no_capability(tmp_path: Path) -> None:
    project = c_project(tmp_path / "mine", settings='capabilities = ["log"]\n')
    with pytest.raises(KitError, match="import no capability"):
        build_project(project, cache=tmp_path / "cache")


def test_a_static_component_is_a_builder_without_wishes() -> None:
    info = inspect_component(static_component(b"graph", b"{}"))
    assert (info.capabilities, info.revises) == ((), False)
