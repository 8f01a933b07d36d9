"""What the Linux kernel takes away from a process that asks for it: Landlock and seccomp, by system call.

Landlock restricts files, ports and other processes. The seccomp filter leaves what computing needs, and the
two pipes. It is classic BPF written by hand, because libseccomp would be one more library in the measured
image for sixty instructions. Only for x86-64, the one architecture of SGX.

Sources: the kernel's userspace-api documentation (landlock, seccomp_filter), and its headers
include/uapi/linux/{landlock,filter,seccomp}.h.
"""

import ctypes
import errno
import mmap
import os
import platform
import struct
from contextlib import suppress

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38

_CREATE_RULESET = 444
_RESTRICT_SELF = 446
_LANDLOCK_VERSION = ctypes.c_uint(1)

_FILESYSTEM_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many access rights, from bit 0, each ABI version handles."""
_NETWORK_BITS = 2
_NETWORK_SINCE = 4
_SCOPE_BITS = 2
_SCOPE_SINCE = 6

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


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def restrict_by_landlock() -> bool:
    """Enter a Landlock domain that allows nothing, as far as the kernel's version handles it, for good.

    False where the kernel has no Landlock (it came with Linux 5.13).
    """
    version = system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1 or not forbid_new_privileges():
        return False
    ruleset = _Ruleset(
        (1 << _FILESYSTEM_BITS.get(version, max(_FILESYSTEM_BITS.values()))) - 1,
        (1 << _NETWORK_BITS) - 1 if version >= _NETWORK_SINCE else 0,
        (1 << _SCOPE_BITS) - 1 if version >= _SCOPE_SINCE else 0,
    )
    descriptor = system_call(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(_ruleset_bytes(version)), ctypes.c_uint(0)
    )
    if descriptor < 0:
        return False
    try:
        return system_call(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint(0)) == 0
    finally:
        with suppress(OSError):
            os.close(descriptor)


def _ruleset_bytes(version: int) -> int:
    if version >= _SCOPE_SINCE:
        return ctypes.sizeof(_Ruleset)
    return 16 if version >= _NETWORK_SINCE else 8


class _SeccompProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def filter_by_seccomp(*, executable_memory: bool, threads: bool = True, output: int = 1) -> bool:
    """Leave all threads the system calls of computing and the two pipes; anything else fails with EPERM.

    For good. False where the kernel has no seccomp.
    """
    if platform.machine() != "x86_64" or not forbid_new_privileges():
        return False
    code = seccomp_program(os.getpid(), executable_memory=executable_memory, threads=threads, output=output)
    instructions = _SeccompProgram(len(code) // 8, code)
    result = system_call(_SECCOMP, _SET_MODE_FILTER, _SYNCHRONISE_THREADS, ctypes.byref(instructions))
    return result == 0


def seccomp_program(process: int, *, executable_memory: bool, threads: bool = True, output: int = 1) -> bytes:
    """The filter, as an array of `struct sock_filter`."""
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
    for descriptor in sorted({1, 2, output}):
        code += _allow_if(_WRITE, 0, _EQUAL, descriptor)
    code += _allow_if(_TGKILL, 0, _EQUAL, process)
    if threads:
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


def system_call(number: int, *arguments: object) -> int:
    """What it returned; negative is an error, whose number `ctypes.get_errno` has."""
    return int(_LIBC.syscall(ctypes.c_long(number), *arguments))


def protect_memory(address: ctypes.c_void_p, length: int, rights: int) -> bool:
    """Whether the rights were changed."""
    return bool(_LIBC.mprotect(address, ctypes.c_size_t(length), ctypes.c_int(rights)) == 0)


def forbid_new_privileges() -> bool:
    """Neither Landlock nor seccomp is to be had without this."""
    rest = (ctypes.c_ulong(0),) * 3
    return bool(_LIBC.prctl(ctypes.c_int(_PR_SET_NO_NEW_PRIVS), ctypes.c_ulong(1), *rest) == 0)


def forbid_dumps() -> bool:
    """Let nobody else of this user read this process's memory, and the kernel write no core of it."""
    rest = (ctypes.c_ulong(0),) * 4
    return bool(_LIBC.prctl(ctypes.c_int(_PR_SET_DUMPABLE), *rest) == 0)
