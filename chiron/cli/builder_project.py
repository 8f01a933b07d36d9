"""`chiron builder new`, `build` and `check`: from nothing to a component that the gateway takes."""

from pathlib import Path
from typing import Annotated

import typer

from chiron.builder_kit.build import build_project
from chiron.builder_kit.scaffold import new_project
from chiron.cli.builder_files import COMPONENT, ManifestOption, PathArgument, read_builder
from chiron.cli.options import Json
from chiron.cli.output import done, note, print_json
from chiron.wasm_sandbox.compilation import inspect_component

ProjectArgument = Annotated[Path, typer.Argument(help="Directory of the project.")]


def new_command(
    directory: Annotated[Path, typer.Argument(help="Directory to make; its name is the builder's.")],
) -> None:
    """Make a builder project that works, to be changed into your own.

    **Example**: `chiron builder new my-model`
    """
    for path in new_project(directory):
        note(f"  {path}")
    done(f"made {directory}: change builder.py, then `chiron builder build {directory}`")


def build_command(
    project: ProjectArgument = Path(),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=f"Where to write it; {COMPONENT} in the project.")
    ] = None,
    json: Json = False,
) -> None:
    """Compile a project to a WebAssembly component. The same sources again come from a cache.

    **Example**: `chiron builder build my-model`
    """
    component = build_project(project)
    path = output or project / COMPONENT
    path.write_bytes(component)
    if json:
        print_json({"path": str(path), "bytes": len(component)})
        return
    done(f"{path}: {len(component):,} bytes")


def check_command(path: PathArgument, manifest: ManifestOption = None, json: Json = False) -> None:
    """Say what the gateway will say of a builder: it runs the same inspection, and none of its code.

    **Example**: `chiron builder check my-model`
    """
    component, described = read_builder(path, manifest)
    info = inspect_component(component)
    if json:
        found = {"sha256": info.sha256, "capabilities": info.capabilities, "revises": info.revises}
        print_json({**found, "manifest": described.model_dump(mode="json")})
        return
    done(f"{described.name} {described.version} is a builder: {info.sha256}")
    note(f"  it asks data owners for: {', '.join(info.capabilities) or 'nothing'}")
    note(f"  it {'revises its plan over several trials' if info.revises else 'makes one plan'}")
    bounds = described.envelope
    note(
        f"  its envelope: at most {bounds.max_parameters:,} parameters, {bounds.max_steps:,} steps, "
        f"{bounds.max_graph_bytes:,} bytes of graph and recipe"
    )
