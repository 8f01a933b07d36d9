"""The host reads an enclave's log. Nothing that a graph computes from the owner's rows gets into it."""

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from chiron.runtime.training.errors import ENGINE_SILENT
from chiron.runtime.training.sessions import session_options

SECRET = 4711_0815
"""A row of the owner's that the graph uses as an index: it is out of bounds, and the engine says so."""


def _gather() -> bytes:
    """A model that takes its input as an index into two numbers."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input"], ["output"])],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor("table", TensorProto.FLOAT, [2], [0.0, 1.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


GATHER = f"""
import numpy as np, onnxruntime
model = bytes.fromhex("{_gather().hex()}")
options = onnxruntime.SessionOptions()
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
try:
    session.run(None, {{"input": np.array([{SECRET}])}})
except Exception as error:
    import logging
    logging.getLogger("asyncio").error("never retrieved: %s", error, exc_info=True)
    logging.getLogger("chiron.x").error("ended: %s", "training-failed", exc_info=True)
    print(error)
"""
EVERY_OTHER_WAY = f"""
import ctypes, os, sys, threading, warnings
os.write(1, b"{SECRET}")
os.write(2, b"{SECRET}")
ctypes.CDLL(None).puts(b"{SECRET}")
print({SECRET}, flush=True)
print({SECRET}, file=sys.stderr, flush=True)
warnings.warn("{SECRET}")
class Unraisable:
    def __del__(self): raise ValueError("{SECRET}")
Unraisable()
thread = threading.Thread(target=lambda: int("x{SECRET}"))
thread.start()
thread.join()
os.system("echo {SECRET} >&2")
import logging
logging.getLogger("chiron.x").info("%d %d", "{SECRET}")
raise ValueError("{SECRET}")
"""


def _said(program: str, *, opened: bool) -> str:
    head = "from chiron.runtime.logs import open_log\nopen_log()\n" if opened else ""
    ended = subprocess.run(
        [sys.executable, "-c", head + program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.stdout


def test_what_the_engine_says_of_a_failed_index_is_in_the_clear_where_nobody_takes_care() -> None:
    assert str(SECRET) in _said(GATHER, opened=False)


def test_what_the_engine_says_of_a_failed_index_is_not_in_the_log_and_our_own_words_are() -> None:
    said = _said(GATHER, opened=True)
    assert said.splitlines() == [
        "ERROR asyncio a library's message, withheld",
        "ERROR chiron.x ended: training-failed",
    ]


def test_no_other_way_of_writing_reaches_the_log() -> None:
    assert str(SECRET) in _said(EVERY_OTHER_WAY, opened=False)
    assert str(SECRET) not in _said(EVERY_OTHER_WAY, opened=True)


def test_a_log_line_cannot_forge_another_or_move_a_terminals_cursor() -> None:
    said = _said(
        'import logging\nlogging.getLogger("chiron.x").info("a\\nERROR forged \\x1b[2J")', opened=True
    )
    assert said == "INFO chiron.x a?ERROR forged ?[2J\n"


def test_the_engine_is_told_to_be_silent_too(capfd: pytest.CaptureFixture[str]) -> None:
    options = session_options(1)
    assert options.log_severity_level == ENGINE_SILENT
    session = onnxruntime.InferenceSession(_gather(), options, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=str(SECRET)):
        session.run(None, {"input": np.array([SECRET])})
    told = capfd.readouterr()
    assert str(SECRET) not in told.out + told.err
