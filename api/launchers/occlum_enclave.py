"""One enclave under Occlum: the process group that `occlum run` started."""

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from chiron.api.launchers.enclave_process import EnclaveProcess


class OcclumEnclave(EnclaveProcess):
    """See `chiron.api.launchers.launcher.Enclave`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, copy: Path, log: Path) -> None:
        self._copy = copy
        super().__init__(name, process, log)

    def _signal(self, number: signal.Signals) -> None:
        # The group has its leader's number, which is not given to another before we have waited for it.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _clean_up(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self._copy, ignore_errors=True)
