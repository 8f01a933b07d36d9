"""Wheel and sdist: what is in them, and that the one gives the other."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.package.building import ROOT, Archives, tracked

ROOMS = sorted(link for link in (ROOT / "chiron").iterdir() if link.is_symlink())


def _files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _wanted() -> dict[str, bytes]:
    """Every file of the rooms, of whatever kind, at its place under `chiron`."""
    rooms = {room.name for room in ROOMS}
    wanted = {}
    for path in tracked():
        if path.parts[0] == "chiron" and (ROOT / path).is_file():
            wanted[str(path)] = (ROOT / path).read_bytes()
        elif path.parts[0] in rooms:
            wanted[f"chiron/{path}"] = (ROOT / path).read_bytes()
    return wanted


def test_the_wheel_holds_every_file_of_the_rooms_under_one_root_and_nothing_else(archives: Archives) -> None:
    files = _files(archives.wheel)
    wanted = _wanted()
    ours = {name: content for name, content in files.items() if ".dist-info/" not in name}
    assert sorted(ours) == sorted(wanted)
    assert ours == wanted
    name, version = archives.wheel.name.split("-")[:2]
    assert {name.partition("/")[0] for name in files} == {"chiron", f"{name}-{version}.dist-info"}


@pytest.mark.parametrize(
    "name",
    [
        "runtime/attestation/intel_sgx_root_ca.der",
        "enclave_image/Occlum.json",
        "enclave_image/Occlum.development.json",
        "enclave_image/bom.yaml",
        "enclave_image/entry.c",
        "enclave_image/Containerfile",
        "enclave_image/kubernetes/gateway.yaml",
        "wasm_sandbox/wit/worlds.wit",
        "builder_kit/c/chiron_builder.h",
        "py.typed",
    ],
)
def test_data_files_are_in_the_wheel(archives: Archives, name: str) -> None:
    assert f"chiron/{name}" in _files(archives.wheel)


def test_the_sdist_gives_the_same_wheel(archives: Archives) -> None:
    assert _files(archives.rebuilt) == _files(archives.wheel)


def test_the_sdist_holds_folders_where_the_checkout_has_links(archives: Archives) -> None:
    with tarfile.open(archives.sdist) as archive:
        members = archive.getmembers()
    assert all(member.isfile() or member.isdir() for member in members)
    names = {member.name.partition("/")[2] for member in members}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "requirements.lock", "pyproject.toml"} <= names
    assert {f"chiron/{room.name}/__init__.py" for room in ROOMS} <= names
