"""`chiron builder`: write, build, check and publish builders (operators); list them (everybody)."""

import typer

from chiron.cli.builder_files import ManifestOption, PathArgument, read_builder
from chiron.cli.builder_pack import pack_command
from chiron.cli.builder_project import build_command, check_command, new_command
from chiron.cli.builder_run import run_command
from chiron.cli.options import Json, client
from chiron.cli.output import done, note, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Write, build, check and publish builders.")
app.command("new")(new_command)
app.command("build")(build_command)
app.command("pack")(pack_command)
app.command("check")(check_command)
app.command("run")(run_command)


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
