"""Native code survives what admission lets through: a short, deterministic run of random graphs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GRAPHS = 250


def test_random_graphs_of_admitted_operators_end_no_process() -> None:
    command = [sys.executable, "-m", "tests.support.random_graphs", "0", str(GRAPHS)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, f"seed {result.stderr[-500:]}"
    assert int(result.stdout) >= GRAPHS / 8, "enough of them are admitted to say something"
