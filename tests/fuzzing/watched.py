"""Known and random graphs go their whole way in this one process, for a memory checker to watch.

    PYTHONMALLOC=malloc valgrind --undef-value-errors=no python -m tests.fuzzing.watched FIRST COUNT

Each graph's name stands on stderr before it runs, and so before what is found in it. Some 20 seconds a graph.
"""

import sys
from collections.abc import Iterator

from onnxruntime import SessionOptions

from chiron.runtime.training import sessions
from chiron.wasm_sandbox.admission import admit
from chiron.wasm_sandbox.errors import SandboxError
from tests.corpus.components import CORPUS
from tests.corpus.onnx.cases import serialised
from tests.support.random_graphs import RandomGraph
from tests.support.whole_way import ASSETS, ENVELOPE, SMALL, request_for, run_here


def _graphs(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    for path in sorted((CORPUS / "kernels").glob("*.onnx")):
        yield path.stem, path.read_bytes()
    for seed in range(first, first + count):
        yield f"random {seed}", serialised(RandomGraph(seed).model())


def _leave_the_arena() -> None:
    """Give every value memory of its own: a checker does not see the bounds inside of the engine's arena."""
    usual = sessions.session_options

    def session_options(threads: int) -> SessionOptions:
        options = usual(threads)
        options.enable_cpu_mem_arena = options.enable_mem_pattern = options.enable_mem_reuse = False
        return options

    sessions.session_options = session_options


def main() -> None:
    """Run them; those that admission refuses are left out."""
    _leave_the_arena()
    for name, content in _graphs(int(sys.argv[1]), int(sys.argv[2])):
        request = request_for(content)
        try:
            graph = admit(content, request, ENVELOPE, assets=ASSETS, limits=SMALL)
        except SandboxError:
            continue
        print(name, file=sys.stderr, flush=True)
        run_here(graph, request)


if __name__ == "__main__":
    main()
