"""A program of its own: join a job's namespaces, give up what an enclave does not need, become bwrap.

    python -I -S enter.py PARENT USER_FD NETWORK_FD BWRAP ARGUMENT…

The gateway starts it: joining needs a process with one thread, and nothing may run between fork and exec in
a process that has several. It imports nothing but the standard library.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 4096


def main(arguments: list[str]) -> None:
    """Does not return.

    Raises:
        OSError: the kernel refused.
    """
    parent, user_fd, network_fd, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    for descriptor in (int(user_fd), int(network_fd)):
        if libc.setns(descriptor, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)
    # After setns, which clears it; bwrap sets it again for itself and for the enclave.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the gateway is gone")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    os.execv(command[0], command)  # noqa: S606 - that is what this program is for


if __name__ == "__main__":
    main(sys.argv[1:])
