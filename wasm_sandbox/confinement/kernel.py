"""The C library's `syscall`, `prctl` and `mprotect`."""

import ctypes

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_PR_SET_NO_NEW_PRIVS = 38


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
