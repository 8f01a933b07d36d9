"""The demo as people run it, and as they interrupt it."""

import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.end_to_end.service import ROOT


def _processes_naming(text: str) -> list[str]:
    """Command lines of this machine's processes that name `text`."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            lines.append(line)
    return lines


def _heed_interrupts() -> None:
    """A shell's background job, which the test run may be, ignores them, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("stage", ["while the gateway starts", "run the builder, train"])
def test_an_interrupted_demo_leaves_no_process_behind(stage: str) -> None:
    with TemporaryDirectory(prefix="chiron-test-") as directory:
        command = [sys.executable, "scripts/demo.py", "--keep", directory]
        demo = subprocess.Popen(
            command,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_interrupts,
        )
        assert demo.stderr is not None
        for line in demo.stderr:
            if stage in line:
                break
        demo.send_signal(signal.SIGINT)
        rest = demo.stderr.read()
        assert demo.wait(60) == 130, rest
        assert _processes_naming(directory) == []
