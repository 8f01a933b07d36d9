"""`python -m chiron.runtime`: start the role and platform that the launch specification names.

No memory of ours is written to a file when we crash: it holds keys, examples and weights.
"""

import asyncio
import ctypes
import faulthandler
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from chiron.runtime.attestation.platform import Platform, RefusingPlatform
from chiron.runtime.attestation.sgx import Pccs, SgxPlatform
from chiron.runtime.attestation.software import SoftwarePlatform
from chiron.runtime.errors import EnclaveError, LaunchInvalid, PlatformUnavailable
from chiron.runtime.logs import open_log
from chiron.runtime.roles import role_of
from chiron.wire.launch import LAUNCH, LAUNCH_VARIABLE, MAX_LAUNCH_CHARACTERS, Launch, SoftwarePlatformSpec

_LOG = logging.getLogger("chiron.runtime")

EXIT_INTERNAL = 1
"""An error that nobody foresaw."""
EXIT_REFUSED = 3
"""The role ended with a known error; its code is in the log."""
EXIT_STOPPED = 143
"""Ended by SIGTERM, as a shell would say it."""
_PR_SET_DUMPABLE = 4


def main() -> int:
    """Run one role to its end; the exit code tells the launcher whether it ended well."""
    open_log()
    forbid_core_dumps()
    code = 0
    try:
        asyncio.run(_run(_launch_spec()))
    except* asyncio.CancelledError:
        code = EXIT_STOPPED
    except* EnclaveError as errors:
        code = EXIT_REFUSED
        for error in _leaves(errors):
            _LOG.error("ended: %s", getattr(error, "code", "enclave-error"))
    except* Exception as errors:
        code = EXIT_INTERNAL
        for error in _leaves(errors):
            _LOG.error("ended: internal error, %s", _where(error))
    return code


def forbid_core_dumps() -> None:
    """Forbid core dumps, tracebacks of every thread, and reading our memory through ptrace or /proc.

    A limit of zero alone does not stop a kernel that pipes dumps to a program (core(5)); not being dumpable
    does. Where the kernel knows no such thing (Occlum: the memory is encrypted anyway), the limit remains.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        _LOG.info("prctl(PR_SET_DUMPABLE) is not known here")


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _where(error: BaseException) -> str:
    """Type and places of an unexpected error, never its message, which may hold data."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {places}"


def _launch_spec() -> Launch:
    text = os.environ.pop(LAUNCH_VARIABLE, "")
    try:
        if text.startswith("@"):
            with Path(text[1:]).open() as file:
                text = file.read(MAX_LAUNCH_CHARACTERS)
        return LAUNCH.validate_json(text)
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        raise LaunchInvalid("launch-spec-invalid", f"{LAUNCH_VARIABLE} holds no launch spec") from error


def _platform(launch: Launch) -> Platform:
    if isinstance(launch.platform, SoftwarePlatformSpec):
        return SoftwarePlatform(launch.platform.socket)
    try:
        return SgxPlatform.open(Pccs(launch.platform.pccs_url))
    except PlatformUnavailable as error:
        _LOG.error("no SGX here: %s", error)
        return RefusingPlatform()


async def _run(launch: Launch) -> None:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await role_of(launch)(_platform(launch))


if __name__ == "__main__":
    sys.exit(main())
