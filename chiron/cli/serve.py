"""`chiron serve`: the operator's gateway, with enclaves on this machine."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from platformdirs import user_data_path

from chiron.cli.options import Json, single
from chiron.cli.output import done, fail, note, print_json, warn

if TYPE_CHECKING:
    from chiron.api.launchers.launcher import Launcher
    from chiron.api.launchers.local import LocalOptions
    from chiron.api.launchers.occlum import OcclumOptions
    from chiron.api.server import RunningGateway
    from chiron.api.settings import Settings

    MakeLauncher = Callable[[Settings], Awaitable[Launcher]]

STATE_VARIABLE = "CHIRON_STATE"
STATE_DIR = Path(os.environ.get(STATE_VARIABLE) or user_data_path("chiron-gateway"))
"""The gateway's database, blobs and development TEE: `$CHIRON_STATE`, or the platform's data directory."""
IMAGE_FOLDER = "image"
"""In the state directory: the enclave image that `chiron serve` builds and launches."""
ROOT_FILE = "software-root.pem"
"""In the state directory: root certificate of the development TEE, for --trust-software-root."""

app = single()


class LauncherKind(StrEnum):
    """The kinds of place where enclaves run."""

    LOCAL = "local"
    OCCLUM = "occlum"


@app.command("serve")
def serve_command(
    host: Annotated[str, typer.Option(help="Address of the public API.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Its port; 0 takes a free one.")] = 8799,
    state_dir: Annotated[Path, typer.Option(help="Database, ciphertext, image, TEE and logs.")] = STATE_DIR,
    launcher: Annotated[
        LauncherKind, typer.Option(help="local: bubblewrap and a software TEE. occlum: SGX, untested.")
    ] = LauncherKind.LOCAL,
    image: Annotated[
        Path | None, typer.Option(help="local: launch this image as it is, instead of building one.")
    ] = None,
    instance: Annotated[Path | None, typer.Option(help="occlum: the built Occlum instance.")] = None,
    previous: Annotated[
        list[Path] | None,
        typer.Option(
            "--previous",
            metavar="DIR",
            help="Image (occlum: instance) of older code that models are sealed to; may be repeated.",
        ),
    ] = None,
    direct_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Let owners reach predictors directly, at the first free port from this on; "
            "local: 0 is any port.",
        ),
    ] = None,
    enclave_host: Annotated[
        str | None, typer.Option(help="occlum: address at which enclaves reach us and each other.")
    ] = None,
    enclave_port: Annotated[int, typer.Option(min=0, max=65_535, help="occlum: our port for them.")] = 8800,
    operator_may_cancel: Annotated[
        bool,
        typer.Option("--operator-may-cancel", help="Let operators' keys end tenants' jobs and predictors."),
    ] = False,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            metavar="ADDRESS",
            help="Address or network of a proxy whose X-Forwarded-For is believed; may be repeated.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve /metrics there, for Prometheus; else nowhere."),
    ] = None,
    pccs_url: Annotated[str, typer.Option(help="occlum: where collateral is.")] = "http://127.0.0.1:8081",
    json: Json = False,
) -> None:
    """Run a gateway until Ctrl-C or SIGTERM; its enclaves end with it.

    At the first start the enclave image is built, and one operator's and one owner's API key are printed to
    standard output, this once; where that is no terminal, only with --json. Else make keys by `chiron keys`.
    Logs go to standard error, one JSON object a line; enclaves' own are in the state directory.

    **Example**: `chiron serve`

    **Example**: `chiron serve --port 0 --state-dir /var/lib/chiron --json`

    **Example**: `chiron serve --image image-2/ --previous image-1/ --direct-port 8900`

    **Example**: `chiron serve --launcher occlum --instance occlum/ --enclave-host 10.0.0.7`
    """
    from chiron.api.launchers.local import LocalOptions
    from chiron.api.launchers.occlum import OcclumOptions
    from chiron.api.monitoring import configure_logs

    # A pipe of a service manager is a log, where no key belongs.
    first_keys = json or sys.stdout.isatty()
    settings = _settings(
        state_dir=state_dir,
        host=host,
        port=port,
        operator_may_cancel=operator_may_cancel,
        first_keys=first_keys,
        trusted_proxies=trusted_proxy or (),
        **_metrics(metrics),
    )
    make_launcher: MakeLauncher
    if launcher is LauncherKind.OCCLUM:
        if instance is None or enclave_host is None:
            raise typer.BadParameter("--launcher occlum needs --instance and --enclave-host")
        settings = settings.model_copy(update={"enclave_host": enclave_host, "enclave_port": enclave_port})
        make_launcher = _occlum(
            OcclumOptions(
                instance,
                pccs_url,
                enclave_host,
                previous_instances=tuple(previous or ()),
                direct_ports=_ports(direct_port, settings),
            )
        )
    else:
        make_launcher = _local(
            LocalOptions(
                image or _built_image(state_dir),
                previous_images=tuple(previous or ()),
                direct_ports=_ports(direct_port, settings),
            )
        )
    configure_logs()

    def ready(running: "RunningGateway") -> None:
        _tell(running, launcher, settings.state_dir / ROOT_FILE, as_json=json)

    _run(settings, make_launcher, ready)


def _run(
    settings: "Settings", make_launcher: "MakeLauncher", ready: "Callable[[RunningGateway], None]"
) -> None:
    from chiron.api.server import serve

    try:
        asyncio.run(serve(settings, make_launcher, ready=ready))
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        fail("cannot-listen", f"{error.strerror or error}: is another gateway at {where}?")
        raise typer.Exit(1) from None


def _settings(**told: Any) -> "Settings":
    from pydantic import ValidationError

    from chiron.api.settings import Settings

    try:
        return Settings(**told)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(wrong["msg"] for wrong in error.errors())) from None


def _metrics(address: str | None) -> dict[str, Any]:
    """The settings that serve `/metrics` at this address."""
    if address is None:
        return {}
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise typer.BadParameter("--metrics: HOST:PORT, as in 127.0.0.1:9464")
    return {"metrics_host": host.strip("[]"), "metrics_port": int(port)}


def _ports(first: int | None, settings: "Settings") -> range | None:
    """The ports of predictors' doors, as many as predictors may run; an empty range is any port."""
    if not first:
        return None if first is None else range(0)
    return range(first, min(first + settings.limits.predictors, 65_536))


def _built_image(state_dir: Path) -> Path:
    from chiron.api.storage.database import exclusive
    from chiron.enclave_image.build import build_image

    image = state_dir / IMAGE_FOLDER
    # Never under the feet of a gateway that runs there.
    with exclusive(state_dir):
        build_image(image, report=lambda stage: note(f"image: {stage}"))
    return image


def _local(options: "LocalOptions") -> "MakeLauncher":
    from chiron.api.launchers.local import LocalLauncher

    async def make(settings: "Settings") -> "Launcher":
        launcher = await LocalLauncher.open(settings, options)
        # For the owners of this development TEE; the certificate is public.
        (settings.state_dir / ROOT_FILE).write_bytes(launcher.tee.root_pem)
        return launcher

    return make


def _occlum(options: "OcclumOptions") -> "MakeLauncher":
    from chiron.api.launchers.occlum import OcclumLauncher

    async def make(settings: "Settings") -> "Launcher":
        return await OcclumLauncher.open(settings, options)

    return make


def _tell(running: "RunningGateway", launcher: LauncherKind, root: Path, *, as_json: bool) -> None:
    software = launcher is LauncherKind.LOCAL
    keys = running.first_keys
    told = {
        "url": running.url,
        "metrics": running.metrics_url,
        "measurement": running.gateway.launcher.measurement,
        "software_root": str(root) if software else None,
        "operator_key": keys.operator if keys else None,
        "owner_key": keys.owner if keys else None,
    }
    if as_json:
        print_json(told)
        return
    done(f"gateway ready: {running.url}")
    note(f"  measurement    {told['measurement']}")
    if software:
        note(f"  software root  {root}")
    if running.metrics_url:
        note(f"  metrics        {running.metrics_url}/metrics")
    if keys is not None:
        note("These keys are shown once and stored nowhere in the clear:")
        print(f"  operator  {keys.operator}\n  owner     {keys.owner}", flush=True)
    if software:
        warn(
            "enclaves run on a SOFTWARE TEE: for development only. This machine can read everything in "
            "them; owners have to ask for it with --trust-software-root"
        )
