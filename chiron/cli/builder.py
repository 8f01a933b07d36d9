"""`chiron builder`: write, build, check and publish builders (operators); list them (everybody)."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from chiron.cli.options import Json, client
from chiron.cli.output import done, note, print_json, print_table
from chiron.errors import ConfigurationInvalid
from wasm_sandbox.contract import MAX_COMPONENT_BYTES, BuilderManifest

app = typer.Typer(no_args_is_help=True, help="Write, build, check and publish builders.")
COMPONENT = "builder.wasm"
MANIFEST = "manifest.json"
PathArgument = Annotated[Path, typer.Argument(help="Component (.wasm), or the directory that holds it.")]
ManifestOption = Annotated[
    Path | None, typer.Option("--manifest", help=f"Public manifest; {MANIFEST} beside the component.")
]


@app.command("upload")
def upload_command(path: PathArgument, manifest: ManifestOption = None, json: Json = False) -> None:
    """Publish a builder with an operator's key.

    The gateway inspects it as `chiron builder check` does. Its identity is the component's SHA-256.

    **Example**: `chiron builder upload digits-mlp`
    """
    component, described = read_builder(path, manifest)
    with client() as connection:
        info = connection.upload_builder(component, described.model_dump_json().encode())
    if json:
        print_json(info.model_dump(mode="json"))
        return
    done(f"published {info.manifest.name} {info.manifest.version}: {info.sha256}")
    asks = ", ".join(info.capabilities) or "nothing"
    note(f"  it asks data owners for: {asks}")


@app.command("list")
def list_command(json: Json = False) -> None:
    """List the builders that the gateway offers.

    **Example**: `chiron builder list`
    """
    with client() as connection:
        builders = connection.builders()
    if json:
        print_json([info.model_dump(mode="json") for info in builders])
        return
    print_table(
        ["builder", "version", "tasks", "parameters", "asks for", "sha256"],
        [
            (
                info.manifest.name,
                info.manifest.version,
                "+".join(sorted(info.manifest.tasks)),
                f"≤ {info.manifest.envelope.max_parameters:,}",
                ", ".join(info.capabilities) or "nothing",
                info.sha256,
            )
            for info in builders
        ],
    )


def read_builder(path: Path, manifest: Path | None) -> tuple[bytes, BuilderManifest]:
    """Component and manifest, read with a bound.

    Raises:
        ConfigurationInvalid: one of them is missing, too large or malformed.
    """
    component = path / COMPONENT if path.is_dir() else path
    described = manifest or component.with_name(MANIFEST)
    try:
        if component.stat().st_size > MAX_COMPONENT_BYTES:
            raise ConfigurationInvalid(f"{component} is larger than {MAX_COMPONENT_BYTES} bytes")
        return component.read_bytes(), BuilderManifest.model_validate_json(described.read_bytes())
    except OSError as error:
        raise ConfigurationInvalid(f"{error.filename} cannot be read") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise ConfigurationInvalid(f"{described} is no builder manifest: {wrong}") from error
