"""The heap of a process through which frames pass; in processes of their own, for the setting is for good."""

import subprocess
import sys

import pytest

ROUNDS = 200
PIECES = 8
PROGRAM = f"""
import resource, sys
from chiron.ps.streams import keep_freed_pieces
from chiron.ps.streams import PIECE_BYTES

if sys.argv[1] == "set" and not keep_freed_pieces():
    sys.exit(3)

def pass_through():
    pieces = [bytes(PIECE_BYTES) for _ in range({PIECES})]
    pieces.clear()

pass_through()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    pass_through()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(setting: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, setting], check=False, capture_output=True, text=True
    )
    if done.returncode == 3:
        pytest.skip("this C library has no mallopt")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_pieces_that_come_and_go_fault_no_pages() -> None:
    assert page_faults("set") < PIECES * ROUNDS
    assert page_faults("default") > 10 * PIECES * ROUNDS, "else the setting is for nothing here, and can go"
