"""`chiron serve`: the operator's gateway with enclaves on this machine."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from api.launchers.launcher import Launcher
from api.launchers.local import LocalLauncher, LocalOptions
from api.logs import configure_logs
from api.server import RunningGateway, serve
from api.settings import Settings
from api.storage.lock import exclusive
from chiron.cli.options import Json
from chiron.cli.output import done, note, print_json, warn
from chiron.cli.places import IMAGE_FOLDER, ROOT_FILE, STATE_DIR
from enclave_image.build import build_image


class LauncherKind(StrEnum):
    """Where enclaves run."""

    LOCAL = "local"


def serve_command(
    host: Annotated[str, typer.Option(help="Address of the public API.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Its port; 0 takes a free one.")] = 8799,
    state_dir: Annotated[Path, typer.Option(help="Database, ciphertext, image, TEE and logs.")] = STATE_DIR,
    image: Annotated[
        Path | None, typer.Option(help="Image to launch as it is, instead of building one.")
    ] = None,
    launcher: Annotated[LauncherKind, typer.Option(help="Where enclaves run.")] = LauncherKind.LOCAL,
    json: Json = False,
) -> None:
    """Run a gateway until Ctrl-C or SIGTERM; its enclaves end with it.

    At the first start the enclave image is built, and one operator's and one owner's API key are printed,
    this once. Logs go to standard error, one JSON object a line.

    **Example**: `chiron serve`

    **Example**: `chiron serve --port 0 --state-dir /var/lib/chiron --json`
    """
    settings = Settings(state_dir=state_dir, host=host, port=port)
    if image is None:
        image = state_dir / IMAGE_FOLDER
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never under the feet of a gateway that runs there.
        with exclusive(state_dir):
            build_image(image, report=lambda stage: note(f"image: {stage}"))
    configure_logs()
    options = LocalOptions(image=image)

    async def make_launcher(settings: Settings) -> Launcher:
        local = await LocalLauncher.open(settings, options)
        # For the owners of this development TEE; the certificate is public.
        (settings.state_dir / ROOT_FILE).write_bytes(local.tee.root_pem)
        return local

    def ready(running: RunningGateway) -> None:
        _tell(running, settings.state_dir / ROOT_FILE, as_json=json)

    asyncio.run(serve(settings, make_launcher, ready=ready))


def _tell(running: RunningGateway, root: Path, *, as_json: bool) -> None:
    measurement = running.gateway.launcher.measurement
    keys = running.first_keys
    if as_json:
        print_json(
            {
                "url": running.url,
                "measurement": measurement,
                "software_root": str(root),
                "operator_key": keys.operator if keys else None,
                "owner_key": keys.owner if keys else None,
            }
        )
        return
    done(f"gateway ready: {running.url}")
    note(f"  measurement    {measurement}")
    note(f"  software root  {root}")
    if keys is not None:
        note("These keys are shown once and stored nowhere in the clear:")
        note(f"  operator  {keys.operator}")
        note(f"  owner     {keys.owner}")
    warn(
        "enclaves run on a SOFTWARE TEE: for development only. This machine can read everything in them; "
        "owners have to ask for it with --trust-software-root"
    )
