"""`chiron keys`: API keys of a gateway on this machine."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from chiron.api.keys import TenantRole, create_key
from chiron.api.settings import Settings
from chiron.cli.options import Json
from chiron.cli.output import note, print_json
from chiron.cli.places import STATE_DIR

app = typer.Typer(no_args_is_help=True, help="API keys of a gateway that runs on this machine.")


@app.callback()
def _group() -> None:
    """Keeps `create` a subcommand."""


@app.command("create")
def create_command(
    tenant: Annotated[str, typer.Option(help="Whose key: lower-case letters, digits and hyphens.")],
    role: Annotated[TenantRole, typer.Option(help="What it is for.")] = TenantRole.OWNER,
    state_dir: Annotated[Path, typer.Option(help="The gateway's directory.")] = STATE_DIR,
    json: Json = False,
) -> None:
    """Make an API key; it is printed once, on stdout, and stored nowhere in the clear.

    **Example**: `chiron keys create --tenant clinic-a --role owner > clinic-a.key`
    """
    key = asyncio.run(create_key(Settings(state_dir=state_dir), tenant, role))
    if json:
        print_json({"tenant": tenant, "role": role.value, "key": key})
        return
    print(key)
    note(f"a key of tenant {tenant} as {role}; give it to them through a safe channel")
