"""`chiron doctor`'s look at the machine: on this one, and on others that are described by files."""

from pathlib import Path

import pytest

from chiron.cli.doctor import Finding, host_findings

DEVICES = ("dev/sgx_enclave", "dev/sgx_provision", "etc/sgx_default_qcnl.conf")


def machine(root: Path, *, sgx: bool, memory_kib: int = 8 * 2**20) -> Path:
    """The files of one."""
    for name in ("dev", "etc", "proc"):
        (root / name).mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {memory_kib} kB\n")
    for path in DEVICES if sgx else ():
        (root / path).touch()
    return root


def looked_at(root: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in host_findings(root)}


def test_this_machine_confines_enclaves_and_says_what_it_will_use() -> None:
    found = looked_at(Path("/"))
    assert found["bubblewrap"].fine
    assert "confines processes here" in found["bubblewrap"].detail
    assert found["what will be used"].fine


def test_a_machine_with_all_of_sgx_can_attest_for_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctypes.util.find_library", lambda _: "libsgx_dcap_ql.so.1")
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/occlum/build/bin/{name}")
    found = looked_at(machine(tmp_path, sgx=True))
    assert "real attestation is possible" in found["what will be used"].detail
    assert all(found[name].there for name in ("SGX device", "DCAP quoting library", "Occlum"))


def test_a_machine_without_sgx_is_told_that_nothing_is_protected(tmp_path: Path) -> None:
    found = looked_at(machine(tmp_path, sgx=False))
    assert "protects nothing" in found["what will be used"].detail
    assert found["SGX device"].fine
    assert not found["SGX device"].there
    assert found["SGX device"].detail == "/dev/sgx_enclave is not here"


def test_little_memory_is_told(tmp_path: Path) -> None:
    found = looked_at(machine(tmp_path, sgx=False, memory_kib=2**20))
    assert not found["memory"].fine
    assert found["memory"].detail == "1.0 GiB free, 4 are advised"


def test_a_bubblewrap_that_is_not_allowed_to_is_no_bubblewrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("chiron.api.launchers.bubblewrap.find_bubblewrap", lambda: program)
    found = {finding.name: finding for finding in host_findings()}
    assert not found["bubblewrap"].fine
    assert "No permissions to create new namespace" in found["bubblewrap"].detail
    assert not found["what will be used"].fine
    assert found["what will be used"].detail == "no enclave can be started on this machine"


def test_a_bubblewrap_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chiron.api.launchers.bubblewrap.find_bubblewrap", lambda: tmp_path / "none")
    found = {finding.name: finding for finding in host_findings()}
    assert "does not run: FileNotFoundError" in found["bubblewrap"].detail
