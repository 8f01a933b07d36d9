"""`chiron builder`: write, build, pack, check, try and publish builders; list those of a gateway."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chiron.cli import builder_run
from chiron.cli.options import (
    COMPONENT,
    MANIFEST,
    Json,
    ManifestOption,
    PathArgument,
    client,
    group,
    read_builder,
)
from chiron.cli.output import done, note, print_json, print_table
from chiron.wire.contract import Task

if TYPE_CHECKING:
    from chiron.builder_kit.checking import Tried
    from chiron.builder_kit.packing import Packed
    from chiron.builder_kit.rehearsal import StrictTold
    from chiron.wire.contract import BuilderManifest

app = group("Write, build, check and publish builders.")
app.command("run")(builder_run.run_command)
ProjectArgument = Annotated[Path, typer.Argument(help="Directory of the project.")]
_USUAL_RECIPES = {
    Task.CLASSIFICATION: b'{"version": 1, "loss": {"kind": "cross-entropy"}, "epochs": 10}',
    Task.REGRESSION: b'{"version": 1, "loss": {"kind": "mse"}, "epochs": 10}',
}


@app.command("new")
def new_command(
    directory: Annotated[Path, typer.Argument(help="Directory to make; its name is the builder's.")],
) -> None:
    """Make a builder project that works, to be changed into your own.

    **Example**: `chiron builder new my-model`
    """
    from chiron.builder_kit.project import new_project

    for path in new_project(directory):
        note(f"  {path}")
    done(f"made {directory}: change builder.py, then `chiron builder build {directory}`")


@app.command("build")
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
    from chiron.builder_kit.build import build_project

    component = build_project(project)
    path = output or project / COMPONENT
    path.write_bytes(component)
    if json:
        print_json({"path": str(path), "bytes": len(component)})
        return
    done(f"{path}: {len(component):,} bytes")


@app.command("pack")
def pack_command(
    model: Annotated[Path, typer.Argument(help="ONNX file, as PyTorch or scikit-learn export it.")],
    task: Annotated[Task, typer.Option(help="What the model is for.")] = Task.CLASSIFICATION,
    name: Annotated[str | None, typer.Option(help="The builder's name; the file's unless given.")] = None,
    weights: Annotated[
        Literal["keep", "fresh"],
        typer.Option(help="keep: training begins with the file's weights; fresh: drawn anew."),
    ] = "keep",
    recipe: Annotated[
        Path | None,
        typer.Option(help="How to train it (JSON, docs/training.md); 10 epochs of AdamW unless given."),
    ] = None,
    output_name: Annotated[
        str | None, typer.Option("--model-output", help="Which output is trained, where there are several.")
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="Take uint8 images; the model gets them divided by 255.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Directory to write to; named as the builder.")] = None,
    json: Json = False,
) -> None:
    """Make a static builder of an exported model. No compiler is needed.

    Weights that are kept become part of the component: do not pack what its users must not have. The file is
    read in this process, without a sandbox: pack one that you do not trust where there is nothing to lose.

    **Example**: `chiron builder pack resnet.onnx --weights fresh`

    **Example**: `chiron builder pack prices.onnx --task regression --recipe recipe.json`
    """
    from chiron.builder_kit.packing import PackOptions, Weights, pack

    chosen = name or model.stem.lower().replace("_", "-").replace(".", "-")
    options = PackOptions(task, Weights(weights), output_name, images)
    packed = pack(model, chosen, _recipe(recipe, task), options)
    directory = out or Path(chosen)
    _write(packed, directory)
    if json:
        manifest = packed.manifest.model_dump(mode="json")
        print_json({"directory": str(directory), "parameters": packed.parameters, "manifest": manifest})
        return
    done(f"{directory}: {COMPONENT} ({len(packed.component):,} bytes), {MANIFEST}, plan.onnx")
    begun = "drawn anew" if weights == "fresh" else "begin as in the file"
    note(f"  {packed.parameters:,} parameters, {begun}")


def _recipe(path: Path | None, task: Task) -> bytes:
    if path is None:
        return _USUAL_RECIPES[task]
    from chiron import ConfigurationInvalid

    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be read") from error


def _write(packed: "Packed", directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / COMPONENT).write_bytes(packed.component)
    (directory / MANIFEST).write_text(packed.manifest.model_dump_json(indent=2) + "\n")
    (directory / "plan.onnx").write_bytes(packed.graph)


@app.command("check")
def check_command(path: PathArgument, manifest: ManifestOption = None, json: Json = False) -> None:
    """Say what the gateway will say of a builder, and what a job would.

    First comes the gateway's own inspection, which runs none of its code. Then it builds for each of the
    manifest's `shapes`, and the plan is admitted, differentiated and trained for a step as in an enclave.

    **Example**: `chiron builder check my-model`
    """
    from chiron.wasm_sandbox.compilation import inspect_component

    component, described = read_builder(path, manifest)
    info = inspect_component(component)
    tried = _try_shapes(component, described)
    if json:
        found = {"sha256": info.sha256, "capabilities": info.capabilities, "revises": info.revises}
        found["parameters"] = [one.parameters for one in tried]
        found["strict"] = [_strict_as_json(one.strict) for one in tried]
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
    for one in tried:
        shape = " × ".join(map(str, one.form.input_shape)) or "one number"
        note(f"  {one.form.task} of {one.form.input_dtype} {shape}: {one.parameters:,} parameters, it trains")
        _show_strict(one.strict)
    if not tried:
        note("  its manifest names no shapes, so nothing was built: try `chiron builder run`")


def _show_strict(told: "StrictTold") -> None:
    """What `chiron train --oblivious strict` would do to the graph."""
    if told.refused:
        what = f": {told.detail}" if told.detail else ""
        note(f"    strict: it is refused [{told.refused}]{what}")
    elif not told.forms:
        note("    strict: it runs as it is")
    for form in told.forms:
        cost = f"{form.elements:,} more numbers"
        if form.multiply_adds:
            cost += f", {form.multiply_adds:,} multiply-adds"
        note(f"    strict: {form.operator} of {form.node!r}: {form.form}; {cost} an example")


def _strict_as_json(told: "StrictTold") -> dict[str, object]:
    forms = [form.model_dump(mode="json") for form in told.forms]
    return {"refused": told.refused, "detail": told.detail, "forms": forms}


def _try_shapes(component: bytes, described: "BuilderManifest") -> "list[Tried]":
    from chiron.builder_kit.build import default_cache
    from chiron.builder_kit.checking import try_shapes
    from chiron.wasm_sandbox.errors import SandboxError

    try:
        return asyncio.run(try_shapes(component, described, cache=default_cache() / "compiled"))
    except SandboxError as error:
        # On the author's own machine there is nobody to keep it from.
        note(f"  {error.detail}")
        raise


@app.command("upload")
def upload_command(path: PathArgument, manifest: ManifestOption = None, json: Json = False) -> None:
    """Publish a builder with an operator's key.

    The gateway inspects it as `chiron builder check` does. Its identity is the component's SHA-256. Its name,
    made of your tenant's and the manifest's name and version, stands for this component for good.

    **Example**: `chiron builder upload digits-mlp`
    """
    component, described = read_builder(path, manifest)
    with client() as connection:
        info = connection.upload_builder(component, described.model_dump_json().encode())
    if json:
        print_json(info.model_dump(mode="json"))
        return
    done(f"published {info.full_name}: {info.sha256}")
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
        ["builder", "tasks", "parameters", "asks for", "sha256"],
        [
            (
                info.full_name,
                "+".join(sorted(info.manifest.tasks)),
                f"≤ {info.manifest.envelope.max_parameters:,}",
                ", ".join(info.capabilities) or "nothing",
                info.sha256,
            )
            for info in builders
        ],
    )
