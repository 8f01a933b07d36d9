"""One enclave of the local launcher: its process, and what lives as long as it."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from api.launchers.errors import EnclaveNotStarted
from api.launchers.output import keep_output

_MAX_INFO_BYTES = 4096
_SHOWN_BYTES = 300


class LocalEnclave:
    """See `api.launchers.launcher.Enclave`."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        process_id: int,
        quoting: asyncio.Server,
        socket: Path,
        log: Path,
    ) -> None:
        self.name = name
        self.process_id = process_id
        """Of the enclave itself; `process` is the bwrap around it."""
        self.door: str | None = None
        self._process = process
        self._quoting = quoting
        self._socket = socket
        self._descriptor = _process_descriptor(process_id)
        self._ended = asyncio.create_task(self._live(log))

    def when_ended(self, call: Callable[[Self], None]) -> None:
        """Have `call` called once it has ended."""
        self._ended.add_done_callback(lambda _: call(self))

    async def wait(self) -> int:
        """See `Enclave.wait`; 128 + the signal's number if a signal ended it."""
        return await asyncio.shield(self._ended)

    async def stop(self, grace_s: float) -> None:
        """See `Enclave.stop`."""
        if grace_s > 0:
            self._signal(signal.SIGTERM)
            await asyncio.wait({self._ended}, timeout=grace_s)
        self._signal(signal.SIGKILL)
        await asyncio.wait({self._ended})

    def _signal(self, number: signal.Signals) -> None:
        # To the enclave and not to bwrap, which would end at once and take it along. The descriptor cannot
        # come to mean another process.
        if self._descriptor is not None and not self._ended.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def _live(self, log: Path) -> int:
        try:
            if self._process.stdout is not None:
                await keep_output(self._process.stdout, log)
            code = await self._process.wait()
        finally:
            self._quoting.close()
            self._socket.unlink(missing_ok=True)
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
        return code if code >= 0 else 128 - code


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
    """None if it has ended already, and bwrap with it."""
    try:
        return os.pidfd_open(process_id)
    except ProcessLookupError:
        return None
