"""`chiron doctor`: is everything there that the commands need, and what can this machine do for enclaves?"""

import asyncio
import ctypes
import ctypes.util
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from chiron.cli.options import Json, single
from chiron.cli.output import console, escape, print_json
from chiron.wire import paths

app = single()
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_VERSION_FLAG = 1
_ENOUGH_MEMORY = 4 * 2**30
"""A parameter server and two trainers of a small job."""
_TRIAL_TIMEOUT_S = 20
_SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    fine: bool
    detail: str
    needed_for: str
    there: bool = True
    """False for what is missing without being missed."""


@app.command("doctor")
def doctor_command(json: Json = False) -> None:
    """Check this machine's set-up and say what to do about what is missing.

    **Example**: `chiron doctor`
    """
    findings = list(_findings())
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "[red]✗[/]" if not finding.fine else "[green]✓[/]" if finding.there else "[dim]–[/]"
            told = f"{finding.name}: {escape(finding.detail)}"
            console().print(f"{mark} {told} [dim](for {finding.needed_for})[/]")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(1)


def _findings() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield Finding("Python", supported, version + ("" if supported else ": use 3.11 or 3.12"), "everything")
    for module, purpose in (
        ("onnxruntime", "enclaves on this machine"),
        ("wasmtime", "running builders"),
        ("componentize_py", "chiron builder build"),
        ("pyarrow", "CSV and Parquet"),
        ("PIL", "images"),
        ("sklearn", "the built-in data sets"),
    ):
        found = importlib.util.find_spec(module) is not None
        yield Finding(module, found, "installed" if found else "not installed", purpose)
    if sys.platform == "linux":
        yield from host_findings()
    yield _checked("owner's store", "keys and jobs", _store)
    yield _checked("gateway", "everything but local work", _gateway)


def _checked(name: str, needed_for: str, check: Callable[[], str]) -> Finding:
    from chiron import ChironError

    try:
        return Finding(name, True, check(), needed_for)
    except ChironError as error:
        return Finding(name, False, f"[{error.code}] {error}".replace("[", "\\["), needed_for)


def _store() -> str:
    from chiron import OwnerStore

    store = OwnerStore()
    datasets, jobs = len(list(store.datasets())), len(list(store.jobs()))
    return f"{store.root}: {datasets} datasets, {jobs} jobs"


def _gateway() -> str:
    from chiron.client.configuration import load_configuration

    configuration = load_configuration()
    return asyncio.run(_ask(configuration.gateway_url(), configuration.gateway_key()))


async def _ask(url: str, api_key: str) -> str:
    from chiron import Job
    from chiron.client.gateway_session import GatewaySession
    from chiron.wire.public_api import Health, Page

    async with GatewaySession(url, api_key) as session:
        await session.get(paths.HEALTH, Health)
        await session.get(paths.JOBS, Page[Job])
    return f"{url} answers and takes our key"


def host_findings(root: Path = Path("/")) -> Iterator[Finding]:
    """Confinement, memory and TEE of this machine, whose /dev, /etc and /proc are looked for in `root`."""
    confined = _bubblewrap()
    yield confined
    yield _landlock()
    yield _memory(root)
    sgx = list(_sgx(root))
    yield from sgx
    yield _used(confined, sgx)


def _bubblewrap() -> Finding:
    """Bubblewrap is tried, not only found: many machines forbid what it does."""
    from chiron.api.errors import BubblewrapMissing
    from chiron.api.launchers.bubblewrap import find_bubblewrap

    needed_for = "chiron serve"
    try:
        bwrap = find_bubblewrap()
    except BubblewrapMissing as error:
        return Finding("bubblewrap", False, str(error), needed_for)
    command = [
        str(bwrap),
        "--unshare-all",
        "--unshare-user",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "true",
    ]
    try:
        # A program of a package whose hash is locked, or the system's own.
        tried = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=_TRIAL_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("bubblewrap", False, f"{bwrap} does not run: {type(error).__name__}", needed_for)
    if tried.returncode == 0:
        return Finding("bubblewrap", True, f"{bwrap} confines processes here", needed_for)
    said = tried.stderr.strip()[:_SHOWN_CHARACTERS]
    return Finding("bubblewrap", False, f"{said}. {_namespace_advice()}", needed_for)


def _namespace_advice() -> str:
    """Advice about what usually stands in bubblewrap's way."""
    for path, wrong, advice in (
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor forbids user namespaces"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "user namespaces are switched off"),
        ("/proc/sys/user/max_user_namespaces", "0", "no user namespaces are allowed"),
    ):
        if _text(Path(path)).strip() == wrong:
            return f"{advice}: see {path}"
    return "In a container, user namespaces must be allowed (for Docker: --security-opt seccomp=unconfined)"


def _landlock() -> Finding:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION_FLAG)
    found = (
        f"ABI {version}" if version > 0 else "none: builders are confined by WebAssembly and seccomp alone"
    )
    return Finding("Landlock", True, found, "a second wall around builders")


def _memory(root: Path) -> Finding:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
            enough = available >= _ENOUGH_MEMORY
            detail = f"{available / 2**30:.1f} GiB free" + ("" if enough else ", 4 are advised")
            return Finding("memory", enough, detail, "three enclaves of a small job")
    return Finding("memory", False, "not to be found out", "enclaves")


def _sgx(root: Path) -> Iterator[Finding]:
    """Each part that Occlum with DCAP needs; that one is missing is no fault of a development machine."""
    for name, path in (
        ("SGX device", "dev/sgx_enclave"),
        ("SGX provisioning", "dev/sgx_provision"),
        ("PCCS configuration", "etc/sgx_default_qcnl.conf"),
    ):
        yield _part(name, (root / path).exists(), f"/{path}")
    library = ctypes.util.find_library("sgx_dcap_ql")
    yield _part("DCAP quoting library", library is not None, library or "libsgx_dcap_ql.so")
    occlum = shutil.which("occlum")
    yield _part("Occlum", occlum is not None, occlum or "the occlum program")
    dynamic = tuple(int(part) for part in platform.release().split(".")[:2] if part.isdigit()) >= (6, 0)
    detail = f"Linux {platform.release()}" + ("" if dynamic else ": enclaves commit all memory at start")
    yield Finding("EDMM", True, detail, "enclaves that grow")


def _part(name: str, there: bool, what: str) -> Finding:
    detail = what if there else f"{what} is not here"
    return Finding(name, True, detail, "chiron serve --launcher occlum", there)


def _used(confined: Finding, sgx: list[Finding]) -> Finding:
    possible = all(part.there for part in sgx)
    if possible:
        detail = "real attestation is possible: chiron serve --launcher occlum (docs/occlum.md)"
    elif confined.fine:
        detail = "launcher local on a SOFTWARE TEE, which protects nothing from this machine's administrator"
    else:
        detail = "no enclave can be started on this machine"
    return Finding("what will be used", confined.fine or possible, detail, "chiron serve")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
