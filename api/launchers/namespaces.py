"""The loopback that a job's enclaves share, and the one way into it from this machine's network.

User and network namespaces are held open by two descriptors. No process stays behind to hold them: when the
gateway ends, however it does, the kernel frees them.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chiron.api.errors import ConfinementUnavailable, EnclaveNotStarted
from chiron.api.launchers import door_relay, enter
from chiron.api.launchers.bubblewrap import network_arguments

_TIMEOUT_S = 20
_MAX_INFO_BYTES = 4096
_SHOWN_CHARACTERS = 300
_WAIT_FOR_END = ("-I", "-S", "-c", "import sys; print(flush=True); sys.stdin.read()")
INNER_PORT = 8443
"""Where the enclave listens, on its job's own loopback."""


@dataclass(frozen=True)
class JobNamespaces:
    """Descriptors of the two namespaces."""

    user: int
    network: int

    @classmethod
    async def create(cls, bwrap: Path) -> "JobNamespaces":
        """Make them: bwrap starts our own interpreter in new ones, which we open and then let it end.

        Raises:
            ConfinementUnavailable: this machine does not allow it; the message says what bwrap said.
        """
        info, info_write = os.pipe()
        try:
            arguments = network_arguments(info_write, (sys.executable, *_WAIT_FOR_END))
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


class Door:
    """One listening address, and the process that carries what comes to it."""

    def __init__(self, address: str, process: asyncio.subprocess.Process) -> None:
        self.address = address
        self._process = process

    @classmethod
    async def open(cls, namespaces: JobNamespaces, host: str, ports: range) -> Self:
        """Listen at the first of `ports` that is free; an empty range is any port.

        Raises:
            EnclaveNotStarted: none is free, or the process could not be started.
        """
        listening = _listening(host, ports)
        joined = (namespaces.user, namespaces.network)
        python = (sys.executable, "-I", "-S")
        arguments = (*python, enter.__file__, str(os.getpid()), *map(str, joined))
        relay = (*python, door_relay.__file__, str(listening.fileno()), str(INNER_PORT))
        with listening:
            bound = listening.getsockname()[:2]
            try:
                process = await asyncio.create_subprocess_exec(
                    *arguments,
                    *relay,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                    pass_fds=(*joined, listening.fileno()),
                    env={},
                )
            except OSError as error:
                raise EnclaveNotStarted("the relay to the predictor could not be started") from error
        return cls(f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}", process)

    def close(self) -> None:
        """Nobody comes in any more."""
        with suppress(ProcessLookupError):
            self._process.kill()


def _listening(host: str, ports: range) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in ports or (0,):
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind((host, port))
            opened.listen(door_relay.CONNECTIONS)
        except OSError:
            opened.close()
        else:
            return opened
    raise EnclaveNotStarted("no port is free for the predictor's door")
