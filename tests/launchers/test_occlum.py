"""The Occlum launcher against a double of the `occlum` program; no SGX is here."""

import asyncio
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chiron.api.errors import EnclaveNotStarted, LauncherError
from chiron.api.launchers.launcher import LaunchOrder
from chiron.api.launchers.occlum import OcclumLauncher, OcclumOptions
from chiron.api.settings import Settings
from chiron.enclave_image.contents import ENTRY_POINT
from chiron.wire.attestation import Role
from chiron.wire.launch import LAUNCH_VARIABLE, LaunchSpec, SgxPlatformSpec
from tests.launchers.conftest import TOKEN, alive, order
from tests.support.specs import JOB, OTHER_JOB, job_spec

MRENCLAVE = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
DOUBLE = """#!/bin/sh
# Does at the process boundary what Occlum does: prints the measurement, or starts something long in a child.
case "$1" in
print) echo "$MEASUREMENT_TOLD"; exit "$PRINT_CODE" ;;
run)
    "$PYTHON" - "$@" <<'END'
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(),
                  "here": sorted(os.listdir("."))}), flush=True)
open("run/written", "w").write("by one enclave")
END
    [ -e build/ends ] && exit 5
    sleep 600 & echo "child $!"; wait ;;
esac
"""


def double(directory: Path, told: str = MRENCLAVE, code: int = 0) -> Path:
    """An `occlum` program."""
    program = directory / "occlum"
    program.write_text(
        DOUBLE.replace("$MEASUREMENT_TOLD", told)
        .replace("$PRINT_CODE", str(code))
        .replace("$PYTHON", sys.executable)
    )
    program.chmod(0o755)
    return program


@pytest.fixture
def options(tmp_path: Path) -> OcclumOptions:
    instance = tmp_path / "instance"
    (instance / "build/mount").mkdir(parents=True)
    (instance / "build/mount/image").write_bytes(b"sealed")
    (instance / "run").mkdir()
    (instance / "Occlum.json").write_text("{}")
    return OcclumOptions(instance, "http://pccs:8081", "10.0.0.7", str(double(tmp_path)))


def settings_of(tmp_path: Path, **changes: Any) -> Settings:
    told = {"enclave_host": "10.0.0.7", "enclave_port": 8800} | changes
    return Settings(state_dir=tmp_path / "state", **told)


async def printed(state_dir: Path, lines: int) -> list[str]:
    """The first lines of the only log."""
    async with asyncio.timeout(20):
        while True:
            for log in (state_dir / "logs").glob("*.log"):
                found = log.read_text().splitlines()
                if len(found) >= lines:
                    return found
            await asyncio.sleep(0.01)


async def test_measures_what_occlum_says(tmp_path: Path, options: OcclumOptions) -> None:
    launcher = await OcclumLauncher.open(settings_of(tmp_path), options)
    assert launcher.measurement == MRENCLAVE


async def test_starts_our_entry_point_with_the_launch_variable_and_little_else(
    tmp_path: Path, options: OcclumOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD_OF_OURS", "x")
    monkeypatch.setenv("SGX_AESM_ADDR", "1")
    settings = settings_of(tmp_path)
    launcher = await OcclumLauncher.open(settings, options)
    enclave = await launcher.launch(order(role=Role.TRAINER, index=1))
    told = json.loads((await printed(settings.state_dir, 2))[0])
    assert told["arguments"] == ["run", *ENTRY_POINT]
    assert set(told["environment"]) - {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"} == {
        "PATH",
        "SGX_AESM_ADDR",
        LAUNCH_VARIABLE,
    }
    launch = LaunchSpec.model_validate_json(told["environment"][LAUNCH_VARIABLE])
    assert (launch.role, launch.index, launch.job) == (Role.TRAINER, 1, JOB)
    assert launch.gateway.url == "http://10.0.0.7:8800"
    assert (launch.gateway.socket, launch.gateway.token) == (None, TOKEN)
    assert launch.platform == SgxPlatformSpec(pccs_url="http://pccs:8081")
    assert launch.listen_host == "10.0.0.7"
    assert TOKEN not in " ".join(told["arguments"])
    await enclave.stop(0)


async def test_each_enclave_writes_into_a_copy_of_its_own_that_goes_with_it(
    tmp_path: Path, options: OcclumOptions
) -> None:
    settings = settings_of(tmp_path)
    launcher = await OcclumLauncher.open(settings, options)
    enclaves = [await launcher.launch(order(index=index)) for index in range(2)]
    await printed(settings.state_dir, 2)
    copies = sorted((settings.state_dir / "occlum").iterdir())
    assert len(copies) == 2
    sealed = {(copy / "build/mount/image").stat().st_ino for copy in copies}
    assert sealed == {(options.instance / "build/mount/image").stat().st_ino}
    await asyncio.gather(*(enclave.stop(0) for enclave in enclaves))
    assert list((settings.state_dir / "occlum").iterdir()) == []
    assert list((options.instance / "run").iterdir()) == []


async def test_ends_the_whole_process_group(tmp_path: Path, options: OcclumOptions) -> None:
    settings = settings_of(tmp_path)
    launcher = await OcclumLauncher.open(settings, options)
    enclave = await launcher.launch(order())
    child = int((await printed(settings.state_dir, 2))[1].split()[1])
    assert alive(child)
    await launcher.close()
    assert await enclave.wait() == 128 + signal.SIGKILL
    async with asyncio.timeout(10):
        while alive(child):  # noqa: ASYNC110 - init reaps it
            await asyncio.sleep(0.01)
    assert not (settings.state_dir / "occlum").exists()


async def test_tells_its_exit_code(tmp_path: Path, options: OcclumOptions) -> None:
    (options.instance / "build/ends").touch()
    launcher = await OcclumLauncher.open(settings_of(tmp_path), options)
    enclave = await launcher.launch(order())
    assert await enclave.wait() == 5
    await enclave.stop(1)
    await launcher.release(JOB)


async def test_refuses_a_spec_that_no_variable_holds(tmp_path: Path, options: OcclumOptions) -> None:
    settings = settings_of(tmp_path)
    launcher = await OcclumLauncher.open(settings, options)
    small = job_spec()
    many = small.dataset.model_copy(update={"chunk_sha256": ("00" * 32,) * 2000})
    large = small.model_copy(update={"dataset": many})
    with pytest.raises(EnclaveNotStarted, match="use larger chunks"):
        await launcher.launch(LaunchOrder(Role.TRAINER, JOB, 0, large, TOKEN))
    assert not (settings.state_dir / "occlum").exists()


async def test_leaves_nothing_if_the_instance_is_gone(tmp_path: Path, options: OcclumOptions) -> None:
    settings = settings_of(tmp_path)
    launcher = await OcclumLauncher.open(settings, options)
    options.instance.rename(tmp_path / "moved")
    with pytest.raises(EnclaveNotStarted):
        await launcher.launch(order())
    assert list((settings.state_dir / "occlum").iterdir()) == []


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [("", 0, "is it built"), ("no hex", 0, "is it built"), (MRENCLAVE, 1, "is it built")],
)
async def test_refuses_an_instance_that_tells_no_measurement(
    tmp_path: Path, options: OcclumOptions, told: str, code: int, said: str
) -> None:
    double(tmp_path, told, code)
    with pytest.raises(LauncherError, match=said):
        await OcclumLauncher.open(settings_of(tmp_path), options)


async def test_says_what_is_missing(tmp_path: Path, options: OcclumOptions) -> None:
    with pytest.raises(LauncherError, match="address and port"):
        await OcclumLauncher.open(settings_of(tmp_path, enclave_host=None), options)
    with pytest.raises(LauncherError, match="was not found"):
        await OcclumLauncher.open(settings_of(tmp_path), OcclumOptions(options.instance, program="no-occlum"))
    with pytest.raises(LauncherError, match="no built Occlum instance"):
        await OcclumLauncher.open(
            settings_of(tmp_path), OcclumOptions(tmp_path / "none", program=options.program)
        )


async def test_copies_where_hard_links_are_not_possible(
    tmp_path: Path, options: OcclumOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, os.strerror(18))

    launcher = await OcclumLauncher.open(settings_of(tmp_path), options)
    monkeypatch.setattr(os, "link", refuse)
    enclave = await launcher.launch(order())
    (copy,) = (tmp_path / "state/occlum").iterdir()
    assert (copy / "build/mount/image").read_bytes() == b"sealed"
    assert (copy / "build/mount/image").stat().st_nlink == 1
    await enclave.stop(0)


def _with_an_older_instance(tmp_path: Path, options: OcclumOptions) -> Path:
    older = tmp_path / "older"
    shutil.copytree(options.instance, older)
    program = Path(options.program)
    program.write_text(program.read_text().replace(f'echo "{MRENCLAVE}"', "cat measurement"))
    (options.instance / "measurement").write_text(MRENCLAVE)
    (older / "measurement").write_text("1" * 64)
    return older


async def test_predictors_of_older_code_and_at_their_own_doors(
    tmp_path: Path, options: OcclumOptions
) -> None:
    """Two instances of one double, which tells the measurement that lies in the instance."""
    older = _with_an_older_instance(tmp_path, options)
    settings = settings_of(tmp_path)
    told = replace(options, previous_instances=(older,), direct_ports=range(9000, 9001))
    launcher = await OcclumLauncher.open(settings, told)
    assert [image.measurement for image in launcher.images] == [MRENCLAVE, "1" * 64]
    wanted = replace(order(role=Role.PREDICTOR), at_a_door=True, taking=True, measurement="1" * 64)
    enclave = await launcher.launch(wanted)
    assert enclave.door == "10.0.0.7:9000"
    launch = json.loads((await printed(settings.state_dir, 2))[0])["environment"][LAUNCH_VARIABLE]
    spec = LaunchSpec.model_validate_json(launch)
    assert (spec.listen_host, spec.listen_port, spec.taking) == ("10.0.0.7", 9000, True)
    (copy,) = (settings.state_dir / "occlum").iterdir()
    assert (copy / "build/mount/image").stat().st_ino == (older / "build/mount/image").stat().st_ino
    with pytest.raises(EnclaveNotStarted, match="taken"):
        await launcher.launch(replace(wanted, job=OTHER_JOB))
    with pytest.raises(EnclaveNotStarted, match="no instance"):
        await launcher.launch(replace(wanted, measurement="2" * 64))
    await enclave.stop(0)
    again = await launcher.launch(wanted)
    assert again.door == "10.0.0.7:9000"
    await again.stop(0)


def test_doors_under_occlum_have_named_ports(tmp_path: Path, options: OcclumOptions) -> None:
    with pytest.raises(LauncherError, match="named"):
        asyncio.run(OcclumLauncher.open(settings_of(tmp_path), replace(options, direct_ports=range(0))))
