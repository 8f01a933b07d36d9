"""`chiron doctor`: is everything there that the commands need?"""

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict

import typer

from chiron.cli.host import Finding, host_findings
from chiron.cli.options import Json
from chiron.cli.output import err, print_json
from chiron.client.configuration import load_configuration
from chiron.client.gateway import GatewaySession
from chiron.client.store import OwnerStore
from chiron.wire import paths
from chiron.wire.errors import ChironError
from chiron.wire.jobs import Job
from chiron.wire.public_api import Health


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
            err.print(f"{mark} {finding.name}: {finding.detail} [dim](for {finding.needed_for})[/]")
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
    yield from host_findings()
    yield _checked("owner's store", "keys and jobs", _store)
    yield _checked("gateway", "everything but local work", _gateway)


def _checked(name: str, needed_for: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check(), needed_for)
    except ChironError as error:
        return Finding(name, False, f"[{error.code}] {error}".replace("[", "\\["), needed_for)


def _store() -> str:
    store = OwnerStore()
    datasets, jobs = len(list(store.datasets())), len(list(store.jobs()))
    return f"{store.root}: {datasets} datasets, {jobs} jobs"


def _gateway() -> str:
    configuration = load_configuration()
    return asyncio.run(_ask(configuration.gateway_url(), configuration.gateway_key()))


async def _ask(url: str, api_key: str) -> str:
    async with GatewaySession(url, api_key) as session:
        await session.get(paths.HEALTH, Health)
        await session.get(paths.JOBS, list[Job])
    return f"{url} answers and takes our key"
