"""The host chooses an entry program's arguments, input and environment: it starts the runtime, nothing else.

The image is the only file system here, as in an enclave; the environment is whatever a host likes, which is
more than Occlum lets through (its configuration names one variable). LD_PRELOAD is left to that: the loader
obeys it before any program's first instruction.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from chiron.api.launchers.bubblewrap import find_bubblewrap
from chiron.enclave_image import start
from chiron.enclave_image.contents import ENTRY_POINT, INTERPRETER, PACKAGES
from chiron.enclave_image.errors import OcclumRefuses
from chiron.enclave_image.manifest import MANIFEST, ROOT
from chiron.enclave_image.occlum_configuration import read_configuration
from chiron.enclave_image.occlum_files import write_occlum_files
from chiron.wire.launch import LAUNCH_VARIABLE
from tests.support.images import copied, inside, make_it_start, replace

FUTURE = (99, 0)
EVIL = "print('the host runs code')"
STARTED = "ended: launch-spec-invalid"
"""The runtime's word on a launch specification that is none: it has started, and nothing else did."""


def run(
    image: Path, *arguments: str, program: str = ENTRY_POINT[0], stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [str(find_bubblewrap()), "--unshare-all", "--ro-bind", str(image / ROOT), "/"]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--", program]  # noqa: S108
    return subprocess.run(
        [*command, *arguments],
        input=stdin,
        env={LAUNCH_VARIABLE: "{}", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-c", EVIL),
        ("-m", "this"),
        ("-S", "-c", EVIL),
        ("-",),
        ("-i",),
        ("/dev/stdin",),
        ("-X", "importtime"),
    ],
)
def test_arguments_and_a_script_on_standard_input_start_the_runtime(
    image: Path, arguments: tuple[str, ...]
) -> None:
    ended = run(image, *arguments, stdin=EVIL)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert STARTED in ended.stderr
    assert "import time" not in ended.stderr


def test_environment_reaches_neither_interpreter_nor_libraries(image: Path) -> None:
    hostile = {
        "GCONV_PATH": "/tmp",  # noqa: S108
        "LD_LIBRARY_PATH": "/tmp",  # noqa: S108
        "OMP_NUM_THREADS": "64",
        "OPENSSL_CONF": "/dev/stdin",
        "PYTHONHOME": "/tmp",  # noqa: S108
        "PYTHONINSPECT": "1",
        "PYTHONPATH": "/tmp",  # noqa: S108
        "PYTHONPROFILEIMPORTTIME": "1",
        "PYTHONSTARTUP": "/dev/stdin",
        "PYTHONVERBOSE": "1",
    }
    ended = run(image, stdin=EVIL, **hostile)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert STARTED in ended.stderr
    assert "import" not in ended.stderr


def test_what_the_entry_program_becomes_has_one_environment_and_no_input(image: Path, tmp_path: Path) -> None:
    """In an image whose runtime tells what it was given: measured otherwise, and started the same way."""
    told = (
        "import json, os, sys\n"
        "print(json.dumps([sys.orig_argv[:5], sys.argv[1:], dict(os.environ), sys.stdin.read()]))"
    )
    changed = telling(image, tmp_path, told)
    ended = run(changed, "-c", EVIL, stdin="secret", LD_LIBRARY_PATH="/tmp", PYTHONPATH="/tmp")  # noqa: S108
    command, arguments, environment, read = json.loads(ended.stdout)
    assert command == [str(INTERPRETER), "-I", "-S", "-B", f"{start.HERE}/start.py"]
    assert (arguments, read) == ([], "")
    expected = dict(line.split("=", 1) for line in read_configuration()["env"]["default"])
    assert environment == expected | {LAUNCH_VARIABLE: "{}"}


def telling(image: Path, directory: Path, program: str) -> Path:
    """A copy of the image with this program as its runtime."""
    copy = copied(image, directory / "image")
    main = inside(copy, PACKAGES / "chiron/runtime/__main__.py")
    replace(main, program.encode())
    shutil.rmtree(main.parent / "__pycache__")
    make_it_start(copy)
    return copy


SHADOWED: dict[str, Callable[[Path], object]] = {
    "a module of ours replaced": lambda image: replace(
        inside(image, PACKAGES / "chiron/runtime/__main__.py"), EVIL.encode()
    ),
    "a package's byte code replaced": lambda image: replace(
        next(inside(image, PACKAGES / "numpy/__pycache__").iterdir()), EVIL.encode()
    ),
    "a module added before ours": lambda image: replace(
        inside(image, INTERPRETER.parents[1] / "lib/numpy.py"), EVIL.encode()
    ),
    "a link added": lambda image: inside(image, PACKAGES / "json.py").symlink_to("/dev/stdin"),
    "a native library of another size": lambda image: replace(
        next(inside(image, PACKAGES).rglob("onnxruntime_pybind11_state*.so")), bytes(2**21)
    ),
    "a file hidden": lambda image: inside(image, PACKAGES / "chiron/wire/bounded.py").unlink(),
    "the list replaced": lambda image: replace(inside(image, PurePosixPath(start.LIST)), b""),
}


@pytest.mark.parametrize("change", SHADOWED)
def test_shadowed_file_keeps_the_runtime_from_starting(image: Path, tmp_path: Path, change: str) -> None:
    copy = copied(image, tmp_path / "image")
    SHADOWED[change](copy)
    ended = run(copy)
    assert (ended.returncode, ended.stdout) == (start.EXIT_SHADOWED, "")
    assert ended.stderr == "ended: image-shadowed\n"


def a_link_on_the_way(folder: Path) -> None:
    folder.rename(folder.parent / "sbin")
    folder.symlink_to("sbin")


def the_interpreter_in_its_place(folder: Path) -> None:
    (folder / "enclave").unlink()
    os.link(folder.parents[1] / "python/bin" / INTERPRETER.name, folder / "enclave")


def a_link_in_its_place(folder: Path) -> None:
    (folder / "enclave").unlink()
    (folder / "enclave").symlink_to(str(INTERPRETER))


def a_script_in_its_place(folder: Path) -> None:
    replace(folder / "enclave", b"#!/opt/python/bin/python3\n")


def a_folder_in_its_place(folder: Path) -> None:
    (folder / "enclave").unlink()
    (folder / "enclave").mkdir()
    os.link(folder.parents[1] / "python/bin" / INTERPRETER.name, folder / "enclave/python")


@pytest.mark.parametrize(
    "change",
    [
        a_link_on_the_way,
        the_interpreter_in_its_place,
        a_link_in_its_place,
        a_script_in_its_place,
        a_folder_in_its_place,
    ],
)
def test_image_in_which_a_host_could_start_something_else_is_refused(
    image: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    copy = copied(image, tmp_path / "image")
    change(inside(copy, PurePosixPath(ENTRY_POINT[0])).parent)
    with pytest.raises(OcclumRefuses, match=r"entry point|a host could start|another program|is missing"):
        write_occlum_files(copy, tmp_path / "occlum", glibc=FUTURE)


def test_image_that_starts_the_interpreter_itself_is_refused(image: Path, tmp_path: Path) -> None:
    copy = copied(image, tmp_path / "image")
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["entry_point"] = [str(INTERPRETER), "-I", "-m", "chiron.runtime"]
    replace(copy / MANIFEST, json.dumps(manifest).encode())
    with pytest.raises(OcclumRefuses, match="is not the entry program"):
        write_occlum_files(copy, tmp_path / "occlum", glibc=FUTURE)


def test_occlum_lets_a_host_start_the_entry_program_only() -> None:
    """Occlum's own check, as of 690d5dbf: a path's components begin with those of an entry point."""
    prefixes = read_configuration()["entry_points"]
    for path in (INTERPRETER, PurePosixPath("/bin/sh"), PurePosixPath("/opt/chiron/bin/enclave2")):
        assert not any(path.is_relative_to(prefix) for prefix in prefixes)
    assert prefixes == [ENTRY_POINT[0]]
