"""What the fuzzers feed with bytes: each target takes any bytes and lets out nothing but its own refusal.

`scripts/fuzz.py` runs them with atheris, coverage-guided, for as long as one likes; the tests run each a
short deterministic while, and again on everything in `tests/corpus/found`.
"""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.codec import Frame, Kind, encode, read_frame
from chiron.wasm_sandbox.commands import CompileCommand
from chiron.wasm_sandbox.errors import (
    Code,
    ComponentRefused,
    FrameMalformed,
    GraphRefused,
    PlanRefused,
    SandboxFailed,
)
from chiron.wasm_sandbox.execution import compile_builder
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.recipe import Recipe, parse_recipe
from chiron.wasm_sandbox.reports import RunReport, failure_in, parse, run_bounds
from chiron.wire.contract import BuildRequest
from tests.corpus.cases import wat_cases
from tests.corpus.components import CORPUS
from tests.corpus.onnx.cases import ENVELOPE, REQUEST, all_cases, good, serialised
from tests.support.random_graphs import RandomGraph
from tests.support.whole_way import go

KERNELS = CORPUS / "kernels"
LIMITS = SandboxLimits()
TERMS = CompileCommand("pulley", 2**20, False, 2**30, False)
CONFINED = {"landlock": True, "seccomp": True}


@dataclass(frozen=True)
class Target:
    """One parser of hostile bytes."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    longest: int


def graph(content: bytes) -> None:
    """Admission: refused with a code, or within the envelope."""
    try:
        admitted = admit(content, REQUEST, ENVELOPE)
    except GraphRefused:
        return
    assert admitted.elements <= ENVELOPE.max_parameters
    assert admitted.elements == sum(parameter.elements for parameter in admitted.parameters)


def engine(content: bytes) -> None:
    """A graph's whole way from admission to prediction, in a child: refused or failed by a code, or done."""
    ending = go(content)
    assert not ending.startswith("found"), ending


def plan(content: bytes) -> None:
    """What a worker process answers: frame, report, graph and recipe within their bounds."""
    stream = io.BytesIO(content)

    def exactly(count: int) -> bytes:
        assert count <= max(size for sizes in run_bounds(LIMITS, keep_log=True).values() for size in sizes)
        part = stream.read(count)
        if len(part) < count:
            raise EOFError
        return part

    with suppress(FrameMalformed, EOFError, SandboxFailed):
        frame = read_frame(exactly, run_bounds(LIMITS, keep_log=True))
        assert encode(frame) == content[: stream.tell()]
        failed = failure_in(frame)
        if failed is None:
            report = parse(RunReport, frame.parts[0])
            assert len(frame.parts[1]) <= LIMITS.graph_bytes
            assert report.fuel >= 0
        else:
            error = failed.error()
            assert error.code in {*Code}
            assert len(error.detail) <= 2000


def request(content: bytes) -> None:
    """A build request: refused by its schema, or the same when written and read again."""
    with suppress(ValueError):
        found = BuildRequest.model_validate_json(content)
        assert BuildRequest.model_validate_json(found.model_dump_json()) == found


def recipe(content: bytes) -> None:
    """A recipe: refused with its code, or the same when written and read again."""
    with suppress(PlanRefused):
        found = parse_recipe(content)
        written = found.model_dump_json().encode()
        assert Recipe.model_validate_json(written) == found


def component(content: bytes) -> None:
    """A component: refused with a code, or one of our world."""
    with suppress(ComponentRefused):
        compile_builder(TERMS, content)


def _answers() -> list[bytes]:
    report = {"present": True, "fuel": 7, "log_lines": 1, "log": [["info", "x"]], "confinement": CONFINED}
    failed = {"code": Code.BUILDER_TRAPPED, "detail": "x", "log_lines": 0, "confinement": CONFINED}
    return [
        encode(Frame(Kind.ANSWERED, (json.dumps(report).encode(), b"graph", b"{}"))),
        encode(Frame(Kind.FAILED, (json.dumps(failed).encode(),))),
    ]


def _graphs() -> list[bytes]:
    hostile = (case.make() for case in all_cases())
    return [serialised(good()), *islice((made for made in hostile if len(made) < 4096), 40)]


def _whole_ways() -> list[bytes]:
    """What kernels take at their edges, graphs at random, and one that begins with a pretrained tensor."""
    drawn = good()
    drawn.graph.initializer[0].metadata_props.add(key="chiron.asset", value="file/tensor")
    del drawn.training_info[:]
    kernels = [path.read_bytes() for path in sorted(KERNELS.glob("*.onnx"))]
    random = [serialised(RandomGraph(seed).model()) for seed in range(60)]
    return [serialised(good()), serialised(drawn), *kernels, *random]


TARGETS = {
    "engine": Target(engine, _whole_ways, 8192),
    "graph": Target(graph, _graphs, 8192),
    "plan": Target(plan, _answers, 8192),
    "request": Target(request, lambda: [REQUEST.model_dump_json().encode()], 2048),
    "recipe": Target(recipe, lambda: [b"{}", b'{"loss": "cross_entropy", "epochs": 3}'], 4096),
    "component": Target(component, lambda: [case.component for case in islice(wat_cases(), 30)], 4096),
}
