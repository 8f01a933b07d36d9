"""What a worker has given up is gone: tried from inside of a process that was confined like it."""

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chiron.wasm_sandbox.confinement import kernel
from tests.corpus.components import ROOT

ATTEMPTS = """
import ctypes, json, mmap, os, socket, sys, threading
from chiron.wasm_sandbox.confinement import close_others, confine, forbid_writable_code, writable_code
from chiron.wasm_sandbox.engine import make_engine

inherited = os.open("/", os.O_RDONLY)
os.set_inheritable(inherited, True)
close_others()
try:
    os.fstat(inherited)
    raise AssertionError("an inherited descriptor is open")
except OSError:
    pass
before = writable_code()
forbid_writable_code()
after = len(writable_code())
held = confine(memory_bytes=256 * 2**20, executable_memory=sys.argv[1] == "cranelift")
libc = ctypes.CDLL(None, use_errno=True)

def tried(action):
    try:
        action()
    except BaseException as error:
        return type(error).__name__
    return "done"

def map_code():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

def allocate():
    return bytearray(2**30)

def in_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(tried(lambda: os.listdir("/"))))
    thread.start()
    thread.join()
    assert results[0] != "done", results

def system_call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")

answers = {
    "open": tried(lambda: os.open("/etc/hostname", os.O_RDONLY)),
    "list": tried(lambda: os.listdir("/")),
    "write": tried(lambda: os.open("/tmp/chiron-left-behind", os.O_CREAT | os.O_WRONLY)),
    "socket": tried(lambda: socket.socket()),
    "unix-socket": tried(lambda: socket.socket(socket.AF_UNIX)),
    "fork": tried(os.fork),
    "spawn": tried(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    "exec": tried(lambda: os.execv("/bin/true", ["true"])),
    "kill": tried(lambda: os.kill(os.getppid(), 0)),
    "pipe": tried(os.pipe),
    "duplicate": tried(lambda: os.dup(1)),
    "read-another": tried(lambda: os.read(2, 1)),
    "write-input": tried(lambda: os.write(0, b"x")),
    "ptrace": tried(lambda: system_call(101, 0, 0, 0, 0)),
    "open-by-number": tried(lambda: system_call(2, b"/etc/hostname", 0)),
    "executable-memory": tried(map_code),
    "memory": tried(allocate),
    "thread": tried(in_thread),
}
code = [len(before), after]
print(json.dumps({"writable-code": code, "held": [held.landlock, held.seccomp], "answers": answers}))
sys.stdout.flush()
os._exit(0)
"""


def attempts(backend: str) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, backend], capture_output=True, cwd=ROOT, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture(scope="module")
def pulley() -> dict[str, Any]:
    found = attempts("pulley")
    if found["held"] != [True, True]:
        pytest.skip("this kernel has no seccomp or no Landlock")
    return found


@pytest.mark.parametrize(
    "act",
    [
        "open", "list", "write", "socket", "unix-socket", "fork", "spawn", "exec", "kill", "pipe",
        "duplicate", "read-another", "write-input", "ptrace", "open-by-number", "executable-memory", "memory",
    ],
)  # fmt: skip
def test_a_confined_process_cannot(pulley: dict[str, Any], act: str) -> None:
    assert pulley["answers"][act] != "done"


def test_a_confined_process_can_start_threads_that_are_confined(pulley: dict[str, Any]) -> None:
    assert pulley["answers"]["thread"] == "done"


def test_code_can_be_mapped_only_where_code_is_made() -> None:
    found = attempts("cranelift")
    assert found["answers"]["executable-memory"] == "done"
    assert found["answers"]["open"] != "done"


def system_call(number: int, *arguments: int, architecture: int = 0xC000003E) -> int:
    """What process 77's filter answers, by an interpreter of classic BPF: the action's upper half."""
    packet = struct.pack("<iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("<HBBI", kernel.seccomp_program(77, executable_memory=False)))
    position = accumulator = 0
    while True:
        operation, then, otherwise, value = code[position]
        position += 1
        if operation == 0x20:
            accumulator = int.from_bytes(packet[value : value + 4], "little")
        elif operation == 0x06:
            return int(value) >> 16
        else:
            holds = {
                0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value),
            }[operation]  # fmt: skip
            position += then if holds else otherwise


ALLOW, REFUSE, KILL = 0x7FFF, 0x0005, 0x8000


@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("read the input", system_call(0, 0), ALLOW),
        ("read something else", system_call(0, 3), REFUSE),
        ("write the output", system_call(1, 1), ALLOW),
        ("write something else", system_call(1, 3), REFUSE),
        ("map data", system_call(9, 0, 4096, 3), ALLOW),
        ("map code", system_call(9, 0, 4096, 5), REFUSE),
        ("make data code", system_call(10, 0, 4096, 4), REFUSE),
        ("start a thread", system_call(56, 0x3D0F00), ALLOW),
        ("start a process", system_call(56, 17), REFUSE),
        ("signal itself", system_call(234, 77, 77, 6), ALLOW),
        ("signal another", system_call(234, 78, 78, 9), REFUSE),
        ("open", system_call(2), REFUSE),
        ("openat", system_call(257), REFUSE),
        ("socket", system_call(41), REFUSE),
        ("io_uring_setup", system_call(425), REFUSE),
        ("a call of the x32 ABI", system_call(0x40000000), KILL),
        ("a call of the 32-bit ABI", system_call(3, 0, architecture=0x40000003), KILL),
        ("a number that there is not", system_call(9999), REFUSE),
    ],
)
def test_the_filter_answers(name: str, answer: int, expected: int) -> None:
    assert answer == expected, name


def test_no_page_is_writable_and_executable(pulley: dict[str, Any]) -> None:
    before, after = pulley["writable-code"]
    assert after == 0
    if before == 0:
        pytest.skip("this interpreter's libffi has no such page")


@pytest.mark.parametrize("measure", [kernel.restrict_by_landlock, None], ids=["landlock", "seccomp"])
def test_where_the_kernel_has_it_not_nothing_fails(measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a LibOS, where these system calls are answered with ENOSYS."""
    monkeypatch.setattr(kernel, "system_call", lambda *_: -1)
    monkeypatch.setattr(kernel, "forbid_new_privileges", lambda: True)
    if measure is None:
        assert kernel.filter_by_seccomp(executable_memory=False) is False
    else:
        assert kernel.restrict_by_landlock() is False
    assert Path("/etc").is_dir()
