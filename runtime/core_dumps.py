"""No memory of ours is written to a file when we crash: it holds keys, examples and weights."""

import ctypes
import faulthandler
import logging
import resource

_LOG = logging.getLogger(__name__)
_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Forbid core dumps, tracebacks of every thread, and reading our memory through ptrace or /proc.

    A limit of zero alone does not stop a kernel that pipes dumps to a program (core(5)); not being dumpable
    does. Where the kernel knows no such thing (Occlum: the memory is encrypted anyway), the limit remains.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        _LOG.info("prctl(PR_SET_DUMPABLE) is not known here")
