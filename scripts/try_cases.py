#!/usr/bin/env python3
"""Put inputs that people have through the real commands, and say what became of each.

    scripts/try_cases.py ../shared/cases --json

It runs in the checkout's own environment, `.venv`.

What is right is written down in `tests/cases/*.json`, one entry an input. Tables to predict are asked of a
model that is trained here, by a gateway of this command's own. Exit code 0 if every input is right or clearly
refused, and every folder has an entry.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__" and "TRY_CASES" not in os.environ:
    # Again in the checkout's own environment, where its tests can be imported.
    python, ours = str(ROOT / ".venv" / "bin" / "python"), {"PYTHONPATH": str(ROOT), "TRY_CASES": "1"}
    os.execve(python, [python, __file__, *sys.argv[1:]], os.environ | ours)  # noqa: S606

from tests.support.asked_cases import asked  # noqa: E402
from tests.support.cases import Verdict, cases, try_case  # noqa: E402

ELSEWHERE = {"attestation-genuine"}
"""Not of this command: evidence, which `tests/attestation` verifies."""
ASKED = "predict-by-position"
STOP_S = 20


def main() -> int:
    """Try all inputs below the directory that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path, help="a folder for each fault, with its inputs")
    parser.add_argument("--only", metavar="TEXT", default="", help="only inputs whose path has this in it")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    found: Counter[Verdict] = Counter()
    for name, verdict, why in _tried(options.directory, options.only):
        found[verdict] += 1
        print(f"{verdict.value:>15}  {name}", file=sys.stderr)
        if verdict not in (Verdict.RIGHT, Verdict.CLEAR_REFUSAL):
            print("\n".join(f"                 {line}" for line in why.splitlines()), file=sys.stderr)
    untold = [] if options.only else _untold(options.directory)
    for folder in untold:
        print(f"nothing is written down of {folder}", file=sys.stderr)
    summary = {"cases": found.total()} | {verdict.value: found[verdict] for verdict in Verdict}
    if not summary["unclear"]:
        del summary["unclear"]
    print(json.dumps(summary) if options.json else "  ".join(f"{name} {n}" for name, n in summary.items()))
    return 0 if found.total() == found[Verdict.RIGHT] + found[Verdict.CLEAR_REFUSAL] and not untold else 1


def _tried(directory: Path, only: str) -> Iterator[tuple[str, Verdict, str]]:
    for case in cases():
        if only in case.file:
            yield str(case), *try_case(directory, case)
    if only in ASKED and (directory / ASKED).is_dir():
        with tempfile.TemporaryDirectory(prefix="chiron-") as place, _gateway(Path(place)) as told:
            yield from asked(directory / ASKED, Path(place), told)


def _untold(directory: Path) -> list[str]:
    known = {case.folder for case in cases()} | ELSEWHERE
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name not in known)


@contextmanager
def _gateway(directory: Path) -> Iterator[dict[str, str]]:
    """A gateway of our own, and what it says of itself."""
    command = [sys.executable, "-m", "chiron", "serve", "--state-dir", str(directory / "state")]
    with (directory / "gateway.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", "0", "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise SystemExit(f"the gateway did not start:\n{(directory / 'gateway.log').read_text()[-2000:]}")
        yield json.loads(line)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
