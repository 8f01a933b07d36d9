"""What every launcher's enclave is on this host: a process whose output is kept, asked to end, or ended."""

import asyncio
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Self

from chiron.api.launchers.output import keep_output


class EnclaveProcess(ABC):
    """The part of `chiron.api.launchers.launcher.Enclave` that is the same for all."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.door: str | None = None
        self._process = process
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

    @abstractmethod
    def _signal(self, number: signal.Signals) -> None:
        """Send it, if the enclave still runs."""

    @abstractmethod
    async def _clean_up(self) -> None:
        """Free what lived as long as the process."""

    async def _live(self, log: Path) -> int:
        try:
            if self._process.stdout is not None:
                await keep_output(self._process.stdout, log)
            code = await self._process.wait()
        finally:
            await self._clean_up()
        return code if code >= 0 else 128 - code
