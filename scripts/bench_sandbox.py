#!/usr/bin/env python3
"""What does the sandbox cost? Every example builder on Pulley and on Cranelift, and the hostile corpus.

    python scripts/bench_sandbox.py --json

For each example: `plan`, from nothing but the compiled component on disk to the plan, everything included;
`run`, the builder's own part of it, in this process; `peak`, the worker's largest resident memory; and
`virtual`, what its address space grew by beyond the compiled component. Figures are medians over
`--repeats`, except peaks. The last line of `--json` is one JSON object; its keys:

    corpus_cases, corpus_survived   hostile inputs, and how many ended with the code they name
    cached_start_s          process, engine, compiled component and Python interpreter, to an empty answer
    cached_build_s          the slowest Python example, start to plan, on Pulley
    cached_build_cpu_s      processor time of the same, both processes: what a busy machine does not change
    cold_compile_s          compiling a Python component for Pulley, once, on all cores
    process_cost_s          of cached_build_s, what a process of its own costs
    virtual_growth_mib      the largest on Pulley
    pulley_over_cranelift   run time of the examples, median of the ratios
    pulley_over_cranelift_loop      the same of a tight loop of arithmetic
"""

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chiron.wasm_sandbox.admission import admit  # noqa: E402
from chiron.wasm_sandbox.compilation import compile_apart  # noqa: E402
from chiron.wasm_sandbox.engine import Backend  # noqa: E402
from chiron.wasm_sandbox.errors import Code, GraphRefused, SandboxError  # noqa: E402
from chiron.wasm_sandbox.execution import Run  # noqa: E402
from chiron.wasm_sandbox.limits import SandboxLimits  # noqa: E402
from chiron.wasm_sandbox.module_cache import ModuleCache, cache_key  # noqa: E402
from chiron.wasm_sandbox.sandbox import Sandbox, run_command  # noqa: E402
from scripts.benchmarks.sandbox_examples import (  # noqa: E402
    GRANTS,
    IN_C,
    NOTHING,
    Example,
    data_for,
    examples,
    starting,
)
from scripts.benchmarks.worker_memory import WorkerMemory  # noqa: E402
from tests.corpus.cases import builder_cases  # noqa: E402
from tests.corpus.components import MODULES, from_c  # noqa: E402
from tests.corpus.onnx.cases import ENVELOPE, REQUEST, all_cases  # noqa: E402

LIMITS = SandboxLimits(parallel_compilation=True, compile_seconds=600, run_seconds=600)
MIB = 2**20
LOOP = ROOT / "tests" / "wasm_sandbox" / "probes" / "floats.c"


def main() -> None:
    """Measure, print a table, and with `--json` one object as the last line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="the figures as the last line")
    parser.add_argument("--skip-corpus", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chiron-bench-") as place:
        figures = _measure(Path(place), options.repeats)
        if not options.skip_corpus:
            figures |= _corpus()
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if options.json:
        print(json.dumps(figures))


def _measure(place: Path, repeats: int) -> dict[str, Any]:
    builders = examples(place)
    start = starting(place)
    loop = Example("loop", from_c(LOOP), start.request, start.data)
    seconds = {backend: _compiled(start.component, place, backend) for backend in Backend}
    print("compiled a Python component:", *(f"{name} {taken:.1f} s" for name, taken in seconds.items()))
    heads = ("plan s", "cpu s", "run s", "peak MiB", "virt. MiB")
    print(f"{'builder':18} {'backend':10}", *(f"{head:>9}" for head in heads), flush=True)
    rows = {
        (example.name, backend): _row(example, place, backend, repeats)
        for example in [start, *builders, loop]
        for backend in Backend
    }
    python = [example.name for example in builders if example.name != IN_C]
    slowest = max(python, key=lambda name: rows[name, Backend.PULLEY]["plan"])
    ratios = {
        example.name: rows[example.name, Backend.PULLEY]["run"] / rows[example.name, Backend.CRANELIFT]["run"]
        for example in [*builders, loop]
    }
    return {
        "cached_start_s": round(rows[NOTHING, Backend.PULLEY]["plan"], 3),
        "cached_build_s": round(rows[slowest, Backend.PULLEY]["plan"], 3),
        "cached_build_cpu_s": round(rows[slowest, Backend.PULLEY]["processor"], 3),
        "slowest": slowest,
        "cold_compile_s": round(seconds[Backend.PULLEY], 1),
        "process_cost_s": round(
            rows[slowest, Backend.PULLEY]["plan"] - rows[slowest, Backend.PULLEY]["inside"], 3
        ),
        "virtual_growth_mib": round(max(rows[name, Backend.PULLEY]["virtual"] for name in python), 1),
        "peak_mib": round(max(rows[name, Backend.PULLEY]["peak"] for name in python), 1),
        "pulley_over_cranelift": round(median(ratios[name] for name in python), 2),
        "pulley_over_cranelift_loop": round(ratios["loop"], 2),
    }


def _compiled(component: bytes, place: Path, backend: Backend) -> float:
    began = perf_counter()
    _, module = compile_apart(component, LIMITS, backend, keep=True)
    taken = perf_counter() - began
    ModuleCache(place / "modules").store(cache_key(component, backend, LIMITS.stack_bytes), module)
    return taken


def _row(example: Example, place: Path, backend: Backend, repeats: int) -> dict[str, float]:
    """Medians of one example; the first run, which may have to compile, does not count."""
    sandbox = Sandbox(LIMITS, backend=backend, cache=place / "modules")
    key = cache_key(example.component, backend, LIMITS.stack_bytes)
    _plan(sandbox, example)
    module = ModuleCache(place / "modules").load(key)
    assert module is not None  # noqa: S101 - the first run stored it
    plans, processor, memory = [], [], WorkerMemory()
    with memory:
        for _ in range(repeats):
            began, used = perf_counter(), _processor_time()
            _plan(sandbox, example)
            plans.append(perf_counter() - began)
            processor.append(_processor_time() - used)
    inside = [_inside(example, backend, bytearray(module)) for _ in range(repeats)]
    row = {
        "plan": median(plans),
        "processor": median(processor),
        "inside": median(whole for whole, _ in inside),
        "run": median(run for _, run in inside),
        "peak": memory.resident / MIB,
        "virtual": (memory.virtual - memory.idle - len(module)) / MIB,
    }
    shown = (row[name] for name in ("plan", "processor", "run", "peak", "virtual"))
    print(f"{example.name:18} {backend:10}", *(f"{figure:9.3f}" for figure in shown), flush=True)
    return row


def _processor_time() -> float:
    """Of this process, and of its children that have ended; the watch on their memory is part of it."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _plan(sandbox: Sandbox, example: Example) -> None:
    try:
        sandbox.build(example.component, example.request, GRANTS, example.data, seed=0)
    except SandboxError as error:
        if example.name != NOTHING or error.code != Code.BUILDER_REFUSED_REQUEST:
            raise


def _inside(example: Example, backend: Backend, module: bytearray) -> tuple[float, float]:
    """Seconds in this process: from the compiled component to the plan, and of that the builder's part."""
    terms, (statistics, sample) = run_command(
        example.request, None, GRANTS, example.data, seed=0, limits=LIMITS, backend=backend, keep_log=False
    )
    began = perf_counter()
    run = Run(terms, module, statistics, sample)
    loaded = perf_counter()
    try:
        run.answer()
    except SandboxError as error:
        if error.code != Code.BUILDER_REFUSED_REQUEST:
            raise
    ended = perf_counter()
    return ended - began, ended - loaded


def _corpus() -> dict[str, int]:
    """Every hostile input once: how many ended as they should, this process unharmed."""
    builders, graphs = builder_cases(), list(all_cases())
    survived, told = 0, data_for(REQUEST)
    for case in builders:
        request = REQUEST.model_copy(update={"trial": case.trial, "trials": 64})
        try:
            Sandbox(case.limits, cache=MODULES).build(case.component, request, case.grants, told, seed=5)
        except SandboxError as error:
            survived += error.code == case.expects
    for hostile in graphs:
        try:
            admit(hostile.make(), REQUEST, ENVELOPE)
        except GraphRefused as error:
            survived += error.code == hostile.expected
    return {"corpus_cases": len(builders) + len(graphs), "corpus_survived": survived}


if __name__ == "__main__":
    main()
