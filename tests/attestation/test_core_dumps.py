"""A crashing enclave process leaves no dump of its memory."""

import ctypes
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import ctypes, os, resource
from chiron.runtime.__main__ import forbid_core_dumps
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
os.abort()
"""


def test_crash_leaves_no_core_file_and_the_process_is_not_dumpable(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.stdout == "(0, 0) 0\n", finished.stderr
    assert finished.returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1, "the test's own process is as it was"
