"""A seccomp filter that leaves only what computing needs, and the two pipes.

Everything else fails with EPERM. Written as classic BPF by hand, because libseccomp would be one more
library in the measured image for sixty instructions. Only for x86-64, the one architecture of SGX.
Source: the kernel's userspace-api/seccomp_filter documentation, include/uapi/linux/{filter,seccomp}.h.
"""

import ctypes
import errno
import mmap
import os
import platform
import struct

from chiron.wasm_sandbox.confinement.kernel import forbid_new_privileges, system_call

_SECCOMP = 317
_SET_MODE_FILTER = ctypes.c_uint(1)
_SYNCHRONISE_THREADS = ctypes.c_uint(1)
_ARCHITECTURE = 0xC000003E
_X32_BIT = 0x40000000

_LOAD = 0x20
_EQUAL = 0x15
_GREATER_OR_EQUAL = 0x35
_ANY_BIT = 0x45
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_NO_SYSTEM_CALL = 0x00050000 | errno.ENOSYS

_NUMBER_AT = 0
_ARCHITECTURE_AT = 4

_FREE = {
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60, "sigaltstack": 131, "gettid": 186,
    "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219, "clock_gettime": 228,
    "clock_nanosleep": 230, "exit_group": 231, "set_robust_list": 273, "getrandom": 318, "rseq": 334,
}  # fmt: skip
"""Allowed whatever their arguments are."""
_READ, _WRITE, _MMAP, _MPROTECT, _CLONE, _TGKILL, _CLONE3 = 0, 1, 9, 10, 56, 234, 435
_CLONE_THREAD = 0x10000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def filter_system_calls(*, executable_memory: bool) -> bool:
    """Install the filter on all threads, for good. False where the kernel has no seccomp."""
    if platform.machine() != "x86_64" or not forbid_new_privileges():
        return False
    code = program(os.getpid(), executable_memory=executable_memory)
    instructions = _Program(len(code) // 8, code)
    result = system_call(_SECCOMP, _SET_MODE_FILTER, _SYNCHRONISE_THREADS, ctypes.byref(instructions))
    return result == 0


def program(process: int, *, executable_memory: bool) -> bytes:
    """The filter, as `struct sock_filter` array."""
    code = [
        _step(_LOAD, _ARCHITECTURE_AT),
        _step(_EQUAL, _ARCHITECTURE, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER_AT),
        _step(_GREATER_OR_EQUAL, _X32_BIT, 0, 1),
        _step(_RETURN, _KILL),
    ]
    for number in _FREE.values():
        code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    code += _allow_if(_READ, 0, _EQUAL, 0)
    for descriptor in (1, 2):
        code += _allow_if(_WRITE, 0, _EQUAL, descriptor)
    code += _allow_if(_TGKILL, 0, _EQUAL, process)
    code += _allow_if(_CLONE, 0, _ANY_BIT, _CLONE_THREAD)
    for number in (_MMAP, _MPROTECT):
        if executable_memory:
            code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
        else:
            code += _allow_unless(number, 2, _ANY_BIT, mmap.PROT_EXEC)
    # The C library falls back to clone, whose flags a filter can read.
    code += [_step(_EQUAL, _CLONE3, 0, 1), _step(_RETURN, _NO_SYSTEM_CALL)]
    return b"".join([*code, _step(_RETURN, _REFUSE)])


def _allow_if(number: int, argument: int, test: int, value: int) -> list[bytes]:
    return [
        _step(_EQUAL, number, 0, 4),
        _step(_LOAD, _argument_at(argument)),
        _step(test, value, 0, 1),
        _step(_RETURN, _ALLOW),
        _step(_LOAD, _NUMBER_AT),
    ]


def _allow_unless(number: int, argument: int, test: int, value: int) -> list[bytes]:
    return [
        _step(_EQUAL, number, 0, 4),
        _step(_LOAD, _argument_at(argument)),
        _step(test, value, 1, 0),
        _step(_RETURN, _ALLOW),
        _step(_LOAD, _NUMBER_AT),
    ]


def _argument_at(index: int) -> int:
    # The low half of the 64-bit argument; descriptors, flags and process ids have no high half.
    return 16 + 8 * index


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("<HBBI", code, then, otherwise, value)
