"""One enclave of the local launcher: its process, and what lives as long as it."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

from chiron.api.errors import EnclaveNotStarted
from chiron.api.launchers.launcher import EnclaveProcess

_MAX_INFO_BYTES = 4096
_SHOWN_BYTES = 300


class LocalEnclave(EnclaveProcess):
    """One enclave of the local launcher: a process in bubblewrap, with a quoting service of its own."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        process_id: int,
        quoting: asyncio.Server,
        socket: Path,
        log: Path,
    ) -> None:
        self.process_id = process_id
        """The process of the enclave itself; `process` is the bwrap around it."""
        self._quoting = quoting
        self._socket = socket
        self._descriptor = _process_descriptor(process_id)
        super().__init__(name, process, log)

    def _signal(self, number: signal.Signals) -> None:
        # To the enclave and not to bwrap, which would end at once and take it along. The descriptor cannot
        # come to mean another process.
        if self._descriptor is not None and not self._ended.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def _clean_up(self) -> None:
        self._quoting.close()
        self._socket.unlink(missing_ok=True)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


async def read_process_id(process: asyncio.subprocess.Process, info: int) -> int:
    """The enclave's process id here, once bwrap tells it on `info`, which is closed then.

    Raises:
        EnclaveNotStarted: it ended before; the message says what it said.
    """
    try:
        told = await asyncio.to_thread(_read_to_end, info)
        return int(json.loads(told)["child-pid"])
    except (ValueError, KeyError) as error:
        said = await process.stdout.read(_SHOWN_BYTES) if process.stdout is not None else b""
        raise EnclaveNotStarted(f"bwrap: {said.decode(errors='replace').strip()}") from error
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        raise


def _read_to_end(descriptor: int) -> bytes:
    with open(descriptor, "rb") as stream:
        return stream.read(_MAX_INFO_BYTES)


def _process_descriptor(process_id: int) -> int | None:
    """A descriptor of the process; None if it has ended already, and bwrap with it."""
    try:
        return os.pidfd_open(process_id)
    except ProcessLookupError:
        return None
