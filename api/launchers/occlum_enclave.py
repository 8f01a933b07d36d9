"""One enclave under Occlum: the process group that `occlum run` started."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from api.launchers.output import keep_output


class OcclumEnclave:
    """See `api.launchers.launcher.Enclave`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, copy: Path, log: Path) -> None:
        self.name = name
        self.door: str | None = None
        self._process = process
        self._copy = copy
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
        # The group has its leader's number, which is not given to another before we have waited for it.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _live(self, log: Path) -> int:
        try:
            if self._process.stdout is not None:
                await keep_output(self._process.stdout, log)
            code = await self._process.wait()
        finally:
            await asyncio.to_thread(shutil.rmtree, self._copy, ignore_errors=True)
        return code if code >= 0 else 128 - code
