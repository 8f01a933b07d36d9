"""The way from this machine's network to one predictor in its job's namespaces, for owners who come directly.

Bytes are carried and nothing else: the owner's TLS ends in the enclave, whose certificate holds its evidence.
"""

import asyncio
import os
import socket
import sys
from contextlib import suppress
from typing import Self

from chiron.api.launchers import door_relay, enter
from chiron.api.launchers.errors import EnclaveNotStarted
from chiron.api.launchers.namespaces import JobNamespaces

INNER_PORT = 8443
"""Where the enclave listens, on its job's own loopback."""


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
