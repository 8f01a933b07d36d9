"""`chiron builder pack`: an exported ONNX model becomes a builder."""

from pathlib import Path
from typing import Annotated

import typer

from chiron.builder_kit.packing import Packed, PackOptions, Weights, pack
from chiron.cli.builder_files import COMPONENT, MANIFEST
from chiron.cli.options import Json
from chiron.cli.output import done, note, print_json
from chiron.client.errors import ConfigurationInvalid
from chiron.wire.contract import Task

_USUAL_RECIPES = {
    Task.CLASSIFICATION: b'{"version": 1, "loss": {"kind": "cross-entropy"}, "epochs": 10}',
    Task.REGRESSION: b'{"version": 1, "loss": {"kind": "mse"}, "epochs": 10}',
}


def pack_command(
    model: Annotated[Path, typer.Argument(help="ONNX file, as PyTorch or scikit-learn export it.")],
    task: Annotated[Task, typer.Option(help="What the model is for.")] = Task.CLASSIFICATION,
    name: Annotated[str | None, typer.Option(help="The builder's name; the file's unless given.")] = None,
    weights: Annotated[
        Weights, typer.Option(help="keep: training begins with the file's weights; fresh: drawn anew.")
    ] = Weights.KEEP,
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

    Weights that are kept become part of the component: do not pack what its users must not have.

    **Example**: `chiron builder pack resnet.onnx --weights fresh`

    **Example**: `chiron builder pack prices.onnx --task regression --recipe recipe.json`
    """
    chosen = name or model.stem.lower().replace("_", "-").replace(".", "-")
    options = PackOptions(task, weights, output_name, images)
    packed = pack(model, chosen, _recipe(recipe, task), options)
    directory = out or Path(chosen)
    _write(packed, directory)
    if json:
        manifest = packed.manifest.model_dump(mode="json")
        print_json({"directory": str(directory), "parameters": packed.parameters, "manifest": manifest})
        return
    done(f"{directory}: {COMPONENT} ({len(packed.component):,} bytes), {MANIFEST}, plan.onnx")
    begun = "drawn anew" if weights is Weights.FRESH else "begin as in the file"
    note(f"  {packed.parameters:,} parameters, {begun}")


def _recipe(path: Path | None, task: Task) -> bytes:
    if path is None:
        return _USUAL_RECIPES[task]
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be read") from error


def _write(packed: Packed, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / COMPONENT).write_bytes(packed.component)
    (directory / MANIFEST).write_text(packed.manifest.model_dump_json(indent=2) + "\n")
    (directory / "plan.onnx").write_bytes(packed.graph)
