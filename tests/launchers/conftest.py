"""Real enclaves in real bubblewrap: of the image, and of one that starts a probe instead of a role."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chiron.api.launchers.launcher import LaunchOrder
from chiron.api.launchers.local import LocalLauncher, LocalOptions
from chiron.api.launchers.local_enclave import LocalEnclave
from chiron.api.settings import Settings
from chiron.enclave_image.contents import INTERPRETER, PACKAGES
from chiron.enclave_image.manifest import MANIFEST, ROOT, read_manifest
from chiron.wire.attestation import Role
from tests.support.specs import JOB, job_spec

TOKEN = "0123456789abcdef.a-token-that-nobody-else-may-see"


def alive(process: int) -> bool:
    """Whether there is such a process on this machine."""
    return Path(f"/proc/{process}").exists()


def order(job: str = JOB, role: Role = Role.TRAINER, index: int = 0) -> LaunchOrder:
    """To launch one enclave of it."""
    return LaunchOrder(role=role, job=job, index=index, spec=job_spec(job=job), token=TOKEN)


def probe_image(image: Path, directory: Path, program: str) -> Path:
    """An image with the same files whose entry point is a Python program."""
    directory.mkdir()
    (directory / ROOT).symlink_to(image / ROOT)
    manifest = read_manifest(image)
    found = f"import sys; sys.path.append({str(PACKAGES)!r})\n"
    entry_point = (str(INTERPRETER), "-I", "-B", "-u", "-c", found + program)
    changed = manifest.model_copy(update={"entry_point": entry_point})
    (directory / MANIFEST).write_text(changed.model_dump_json())
    return directory


@dataclass
class Probed:
    """Launches probes and reads what they print."""

    image: Path
    state_dir: Path
    launcher: LocalLauncher
    settings: Settings

    async def launch(self, job: str = JOB) -> LocalEnclave:
        return await self.launcher.launch(order(job))

    def printed(self, enclave: LocalEnclave) -> str:
        """All that it has printed so far."""
        logs = list((self.state_dir / "logs").glob(f"*-{enclave.name}.log"))
        return logs[0].read_text() if logs else ""

    async def until_printed(self, enclave: LocalEnclave, text: str) -> None:
        """Wait until it has printed `text`."""
        async with asyncio.timeout(20):
            while text not in self.printed(enclave):  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)

    async def result(self, job: str = JOB) -> Any:
        """The JSON that a probe prints before it ends well."""
        enclave = await self.launch(job)
        code = await enclave.wait()
        printed = self.printed(enclave)
        assert code == 0, printed
        return json.loads(printed)


_numbers = itertools.count()


@contextlib.asynccontextmanager
async def probing(
    image: Path, directory: Path, program: str, direct_ports: range | None = None
) -> AsyncIterator[Probed]:
    """A launcher of probes that run `program`, with a socket where the gateway's would be."""
    number = next(_numbers)
    probe = probe_image(image, directory / f"probe-{number}", program)
    state_dir = directory / f"s{number}"
    settings = Settings(state_dir=state_dir, port=0)
    launcher = await LocalLauncher.open(
        settings, LocalOptions(image=probe, tmp_bytes=2**24, direct_ports=direct_ports)
    )
    with socket.socket(socket.AF_UNIX) as gateway:
        gateway.bind(str(settings.socket_path))
        gateway.listen()
        try:
            yield Probed(probe, state_dir, launcher, settings)
        finally:
            await launcher.close()


@pytest.fixture(scope="session")
def bare_image(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's interpreter and nothing for it to import: measured quickly, which each launch does."""
    bare = tmp_path_factory.mktemp("bare")
    shutil.copytree(
        image / ROOT,
        bare / ROOT,
        symlinks=True,
        copy_function=os.link,
        ignore=shutil.ignore_patterns("site-packages"),
    )
    shutil.copy(image / MANIFEST, bare)
    return bare


@pytest.fixture
def short_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose sockets' paths fit."""
    return tmp_path_factory.mktemp("l")
