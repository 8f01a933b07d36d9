"""The hostile builders against the real sandbox, from one process that survives all of them.

The hostile graphs are run by `tests/admission/test_corpus.py`.
"""

import resource
import time
from collections.abc import Iterator

import pytest

from chiron.wasm_sandbox.errors import SandboxError
from chiron.wasm_sandbox.sandbox import Sandbox
from tests.corpus.cases import QUICK, BuilderCase, builder_cases
from tests.corpus.components import CORPUS, MODULES
from tests.corpus.onnx.cases import all_cases
from tests.wasm_sandbox.conftest import NOTHING, REQUEST, data, small_builder

BUILDERS = builder_cases()
LEAST_CASES = 60
COMPILING_SECONDS, STARTING_SECONDS = 20.0, 20.0
"""Beyond what a case's limits allow it: generous, because the tests share a machine."""
GROWTH_BYTES = 128 * 2**20
"""The compiled Python component is 34 MB."""


@pytest.fixture(scope="module", autouse=True)
def _memory_stays_bounded(compiled_probes: object) -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH_BYTES, f"the host grew by {grown >> 20} MiB"


@pytest.mark.parametrize("case", BUILDERS, ids=lambda case: case.name)
def test_a_hostile_builder_ends_with_its_code(case: BuilderCase) -> None:
    python = case.name.startswith("python/")
    sandbox = Sandbox(case.limits, cache=MODULES if python else None)
    asked = REQUEST.model_copy(update={"trial": case.trial, "trials": 64})
    began = time.monotonic()
    with pytest.raises(SandboxError) as failed:
        sandbox.build(case.component, asked, case.grants, data(), seed=5)
    assert failed.value.code == case.expects
    assert time.monotonic() - began < case.limits.run_seconds + COMPILING_SECONDS + STARTING_SECONDS
    assert "3 1 4 1 5" not in str(failed.value)


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(BUILDERS) + len(list(all_cases())) >= LEAST_CASES
    assert {case.name.split("/")[0] for case in BUILDERS} == {"wat", "c", "python"}


def test_every_file_of_the_corpus_is_a_case() -> None:
    names = {case.name for case in BUILDERS}
    folder = CORPUS
    files = {f"{kind}/{path.stem}" for kind in ("wat", "c", "python") for path in (folder / kind).iterdir()}
    assert files - names == {"c/plan", "wat/types", "wat/world", "wat/world-with-log"}


def test_the_sandbox_still_works_after_all_of_them() -> None:
    assert Sandbox(QUICK).build(small_builder(), REQUEST, NOTHING, data(), seed=0).graph == b""
