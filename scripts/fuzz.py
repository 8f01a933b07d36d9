#!/usr/bin/env python3
"""Coverage-guided fuzzing of everything that parses hostile bytes, with atheris.

    python scripts/fuzz.py graph --seconds 3600
    python scripts/fuzz.py --list

Inputs that reach new code are kept in `build/fuzz/TARGET` and are where the next run begins. An input that
makes a target raise anything but its own refusal ends the run with status 77, and is written to
`tests/corpus/found/TARGET-DIGEST`: fix what it found and commit it, the tests run it from then on.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import atheris

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
with atheris.instrument_imports(include=["chiron.wasm_sandbox"], enable_loader_override=False):
    from tests.fuzzing.targets import TARGETS, Target

FOUND = ROOT / "tests" / "corpus" / "found"
SINGLE_INPUT_SECONDS = 20


def main() -> None:
    """Parse the command line, put the seeds in place, and fuzz until told to stop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS))
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--seconds", type=int, default=60, help="0: until interrupted (default: 60)")
    parser.add_argument("--runs", type=int, default=-1, help="inputs to try (default: as many as fit)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0 chooses one")
    parser.add_argument("--keep", type=Path, help="where inputs are kept (default: build/fuzz/TARGET)")
    parser.add_argument("--found", type=Path, default=FOUND, help="where a finding is written")
    options = parser.parse_args()
    if options.list or options.target is None:
        for name, target in sorted(TARGETS.items()):
            print(f"{name:10} {target.run.__doc__}")
        return
    target = TARGETS[options.target]
    kept = options.keep or ROOT / "build" / "fuzz" / options.target
    _put_seeds(kept, target)
    options.found.mkdir(parents=True, exist_ok=True)
    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        f"-runs={options.runs}",
        f"-seed={options.seed}",
        f"-max_len={target.longest}",
        "-len_control=0",
        f"-timeout={SINGLE_INPUT_SECONDS}",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={options.found / options.target}-",
        "-print_final_stats=1",
        str(kept),
    ]
    atheris.Setup(arguments, _watched(target))
    atheris.Fuzz()


def _watched(target: Target) -> Any:
    def run(content: bytes) -> None:
        target.run(bytes(content))

    return run


def _put_seeds(directory: Path, target: Target) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (directory / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main()
