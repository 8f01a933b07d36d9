"""Landlock (Linux 5.13 and later): a domain that allows nothing, as far as the kernel's version handles it.

Source: the kernel's userspace-api/landlock documentation and include/uapi/linux/landlock.h.
"""

import ctypes
import os
from contextlib import suppress

from chiron.wasm_sandbox.confinement.kernel import forbid_new_privileges, system_call

_CREATE_RULESET = 444
_RESTRICT_SELF = 446
_VERSION = ctypes.c_uint(1)

_FILESYSTEM_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many access rights, from bit 0, each ABI version handles."""
_NETWORK_BITS = 2
_NETWORK_SINCE = 4
_SCOPE_BITS = 2
_SCOPE_SINCE = 6


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def deny_everything() -> bool:
    """Handle every right and grant none, for good. False where the kernel has no Landlock."""
    version = system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    if version < 1 or not forbid_new_privileges():
        return False
    ruleset = _Ruleset(
        (1 << _FILESYSTEM_BITS.get(version, max(_FILESYSTEM_BITS.values()))) - 1,
        (1 << _NETWORK_BITS) - 1 if version >= _NETWORK_SINCE else 0,
        (1 << _SCOPE_BITS) - 1 if version >= _SCOPE_SINCE else 0,
    )
    descriptor = system_call(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(_size(version)), ctypes.c_uint(0)
    )
    if descriptor < 0:
        return False
    try:
        return system_call(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint(0)) == 0
    finally:
        with suppress(OSError):
            os.close(descriptor)


def _size(version: int) -> int:
    if version >= _SCOPE_SINCE:
        return ctypes.sizeof(_Ruleset)
    return 16 if version >= _NETWORK_SINCE else 8
