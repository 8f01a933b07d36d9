"""Each target a short deterministic while, guided by coverage; and everything the fuzzers ever found."""

import io
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.codec import read_frame
from chiron.wasm_sandbox.errors import ComponentRefused
from chiron.wasm_sandbox.execution import compile_builder
from chiron.wasm_sandbox.recipe import parse_recipe
from chiron.wasm_sandbox.reports import failure_in, run_bounds
from chiron.wire.contract import BuildRequest
from tests.corpus.components import CORPUS, ROOT
from tests.corpus.onnx.cases import ENVELOPE, REQUEST
from tests.fuzzing.targets import LIMITS, TARGETS, TERMS

RUNS = {"engine": 250, "graph": 2000, "plan": 2000, "recipe": 1000, "request": 500, "component": 500}
FOUND = sorted(path for path in (CORPUS / "found").iterdir() if path.name != "README.md")


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this machine")
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_short_while_finds_nothing(target: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py"), target, "--seed", "1", "--seconds", "120"]
    places = ["--keep", str(tmp_path / "kept"), "--found", str(tmp_path / "found")]
    result = subprocess.run(
        [*command, "--runs", str(RUNS[target]), *places], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert f"Done {RUNS[target]} runs" in result.stderr
    assert list((tmp_path / "found").iterdir()) == []


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this machine")
def test_a_planted_defect_is_found_and_written(tmp_path: Path) -> None:
    """The fuzzer sees what it is there for: an exception that is not a refusal."""
    program = f"""
import sys
sys.argv = ["fuzz", "recipe", "--runs", "5", "--seed", "1", "--keep", {str(tmp_path / "kept")!r},
            "--found", {str(tmp_path / "found")!r}]
sys.path.insert(0, "scripts")
import fuzz
from tests.fuzzing.targets import Target
def broken(content):
    raise RuntimeError("planted")
fuzz.TARGETS["recipe"] = Target(broken, lambda: [b"{{}}"], 10)
fuzz.main()
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode != 0
    assert "planted" in result.stderr + result.stdout
    assert len(list((tmp_path / "found").iterdir())) == 1


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_was_found_stays_fixed(path: Path) -> None:
    TARGETS[path.name.split("-")[0]].run(path.read_bytes())


@pytest.mark.parametrize("target", sorted(set(TARGETS) - {"component"}))
def test_any_bytes_are_refused_or_right(target: str) -> None:
    seeds = TARGETS[target].seeds()

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.sampled_from(seeds), st.binary(max_size=40), st.integers(0, 10_000))
    def check(seed: bytes, inserted: bytes, place: int) -> None:
        TARGETS[target].run(seed[: place % (len(seed) + 1)] + inserted + seed[place % (len(seed) + 1) :])

    check()


def test_mutations_start_from_what_is_accepted() -> None:
    """Else they would only ever find the first check again."""
    first = {name: target.seeds()[0] for name, target in TARGETS.items()}
    assert admit(first["graph"], REQUEST, ENVELOPE).elements == 12
    assert failure_in(read_frame(io.BytesIO(first["plan"]).read, run_bounds(LIMITS, keep_log=True))) is None
    assert BuildRequest.model_validate_json(first["request"]) == REQUEST
    assert parse_recipe(first["recipe"])
    assert any(compiles(seed) for seed in TARGETS["component"].seeds())
    assert all(len(seed) <= target.longest for target in TARGETS.values() for seed in target.seeds())


def compiles(component: bytes) -> bool:
    with suppress(ComponentRefused):
        return compile_builder(TERMS, component).capabilities == ()
    return False
