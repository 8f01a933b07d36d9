"""The loopback that a job's enclaves share: user and network namespaces, held open by two descriptors.

No process stays behind to hold them. When the gateway ends, however it does, the kernel frees them.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chiron.api.launchers.bubblewrap import network_arguments
from chiron.api.launchers.errors import ConfinementUnavailable

_TIMEOUT_S = 20
_MAX_INFO_BYTES = 4096
_SHOWN_CHARACTERS = 300
_WAIT_FOR_END = ("-I", "-S", "-c", "import sys; print(flush=True); sys.stdin.read()")


@dataclass(frozen=True)
class JobNamespaces:
    """Descriptors of the two namespaces."""

    user: int
    network: int

    @classmethod
    async def create(cls, bwrap: Path, root: Path, interpreter: str) -> "JobNamespaces":
        """Make them: bwrap starts the image's interpreter in new ones, which we open and then let it end.

        Raises:
            ConfinementUnavailable: this machine does not allow it; the message says what bwrap said.
        """
        info, info_write = os.pipe()
        try:
            arguments = network_arguments(root, info_write, (interpreter, *_WAIT_FOR_END))
            process = await _started(bwrap, arguments, info_write)
        finally:
            os.close(info_write)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await _ready(process)
            return cls._opened(int(json.loads(os.read(info, _MAX_INFO_BYTES))["child-pid"]))
        except (TimeoutError, OSError, ValueError, KeyError) as error:
            raise ConfinementUnavailable("the namespaces of an enclave could not be made") from error
        finally:
            os.close(info)
            if process.returncode is None:
                process.kill()
            await process.wait()

    @classmethod
    def _opened(cls, process: int) -> "JobNamespaces":
        user = os.open(f"/proc/{process}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cls(user, os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except BaseException:
            os.close(user)
            raise

    def close(self) -> None:
        """Enclaves that are in them stay in them; no other can join."""
        os.close(self.user)
        os.close(self.network)


async def _started(bwrap: Path, arguments: Sequence[str], info_fd: int) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        bwrap, *arguments, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=(info_fd,), env={}
    )


async def _ready(process: asyncio.subprocess.Process) -> None:
    """Its first line says that all is set up; if there is none, its errors say why."""
    if process.stdout is None or process.stderr is None:
        raise ConfinementUnavailable("bwrap was started without pipes")
    if await process.stdout.readline():
        return
    said = (await process.stderr.read(_MAX_INFO_BYTES)).decode(errors="replace").strip()
    raise ConfinementUnavailable(
        f"bwrap cannot make namespaces here: {said[:_SHOWN_CHARACTERS]} (chiron doctor tells more)"
    )
