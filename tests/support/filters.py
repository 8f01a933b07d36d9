"""A seccomp filter (classic BPF) that answers ENOSYS to the system calls that Occlum does not have.

Read in Occlum's source at 690d5dbf. Numbers are x86-64's, as SGX is.
"""

import errno
import struct

LACKING = {
    "fork": 57,
    "mincore": 27,
    "setitimer": 38,
    "getrusage": 98,
    "setsid": 112,
    "mlock": 149,
    "munlock": 150,
    "mlockall": 151,
    "munlockall": 152,
    "io_setup": 206,
    "io_destroy": 207,
    "io_getevents": 208,
    "io_submit": 209,
    "io_cancel": 210,
    "mbind": 237,
    "inotify_init": 253,
    "inotify_add_watch": 254,
    "inotify_rm_watch": 255,
    "splice": 275,
    "tee": 276,
    "vmsplice": 278,
    "signalfd": 282,
    "signalfd4": 289,
    "inotify_init1": 294,
    "renameat2": 316,
    "seccomp": 317,
    "memfd_create": 319,
    "membarrier": 324,
    "mlock2": 325,
    "copy_file_range": 326,
    "preadv2": 327,
    "pwritev2": 328,
    "statx": 332,
    "rseq": 334,
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "pidfd_open": 434,
    "clone3": 435,
    "pidfd_getfd": 438,
    "epoll_pwait2": 441,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
_CLONE = 56
_CLONE_VM = 0x100
_X86_64 = 0xC000003E
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def without_what_occlum_lacks() -> bytes:
    """The filter, as `bwrap --seccomp` reads it."""
    refuse = _instruction(_RETURN, _ERROR | errno.ENOSYS)
    allow = _instruction(_RETURN, _ALLOW)
    program = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_EQUAL, _X86_64, 1, 0),
        refuse,
        _instruction(_LOAD, _NUMBER_AT),
    ]
    for number in LACKING.values():
        program += [_instruction(_EQUAL, number, 0, 1), refuse]
    # A clone that does not share memory is a fork. Threads and posix_spawn share it.
    program += [_instruction(_EQUAL, _CLONE, 1, 0), allow, _instruction(_LOAD, _FIRST_ARGUMENT_AT)]
    program += [_instruction(_ANY_BIT, _CLONE_VM, 0, 1), allow, refuse]
    return b"".join(program)


def _instruction(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, value)
