"""`chiron builder run`: a builder tried on local data, in the same sandbox and training as in an enclave."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chiron.cli.options import Json, ManifestOption, PathArgument, read_builder
from chiron.cli.output import done, note, print_json
from chiron.cli.sources import with_source_options
from chiron.cli.understanding import show
from chiron.wire.contract import Oblivious

if TYPE_CHECKING:
    from chiron import SourceOptions
    from chiron.builder_kit.rehearsal import Rehearsal, RehearsalReport


@with_source_options
def run_command(
    path: PathArgument,
    data: Annotated[
        str, typer.Option("--data", help="File, folder, or `sklearn:digits`, as for `data encrypt`.")
    ],
    options: "SourceOptions",
    rows: Annotated[int, typer.Option(min=2, help="Examples to use, at most.")] = 4096,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps, at most.")] = 200,
    oblivious: Annotated[
        Oblivious, typer.Option(help="As of `chiron train`: what has no strict form is refused by name.")
    ] = Oblivious.CLAMPED,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the results; `run` beside the component.")
    ] = None,
    manifest: ManifestOption = None,
    json: Json = False,
) -> None:
    """Run a builder here, train its model a few steps, and show the curve.

    The builder is granted everything, and its log lines are shown. Open `model.onnx` in Netron.

    **Example**: `chiron builder run my-model --data sklearn:digits`

    **Example**: `chiron builder run my-model --data houses.csv --target price --steps 1000`
    """
    from chiron import open_source
    from chiron.builder_kit.build import default_cache
    from chiron.builder_kit.rehearsal import Scale, rehearse
    from chiron.wasm_sandbox.errors import SandboxError

    component, described = read_builder(path, manifest)
    source = open_source(data, options)
    if not json:
        show(source.description.understood)
    source.description.understood.settled()
    running = rehearse(
        component,
        described,
        source,
        scale=Scale(rows=rows, steps=steps),
        oblivious=oblivious,
        log=lambda severity, text: note(f"  builder [{severity}] {text}"),
        cache=default_cache() / "compiled",
        progress=None if json else _show,
    )
    try:
        result = asyncio.run(running)
    except SandboxError as error:
        # On the author's own machine there is nobody to keep it from.
        note(f"  {error.detail}")
        raise
    directory = out or (path if path.is_dir() else path.parent) / "run"
    _write(result, directory)
    if json:
        print_json(
            {
                "parameters": result.graph.parameters,
                "graph_bytes": len(result.plan.graph),
                "reports": [report.model_dump(mode="json") for report in result.reports],
                "directory": str(directory),
            }
        )
        return
    _conclude(result, directory)


def _show(report: "RehearsalReport") -> None:
    """One line; what was not measured is left out. Validation is of the model before these steps."""
    measured = {
        "train loss": report.train_loss,
        "validation loss": report.validation_loss,
        "accuracy": report.validation_accuracy,
        "R²": report.validation_r2,
    }
    told = ", ".join(f"{name} {value:.4f}" for name, value in measured.items() if value is not None)
    note(f"  step {report.steps:5}: {told}")


def _write(result: "Rehearsal", directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "plan.onnx").write_bytes(result.plan.graph)
    (directory / "model.onnx").write_bytes(result.model)
    (directory / "recipe.json").write_bytes(result.plan.recipe)


def _conclude(result: "Rehearsal", directory: Path) -> None:
    from chiron.builder_kit.rehearsal import sparkline

    losses = [report.train_loss for report in result.reports if report.train_loss is not None]
    note(f"  train loss  {sparkline(losses)}")
    graph = result.graph
    note(
        f"  {graph.parameters:,} parameters, {len(result.plan.graph):,} bytes of graph, "
        f"{graph.activation_bytes:,} bytes of values an example"
    )
    done(f"{directory}: plan.onnx (as the builder made it), model.onnx (trained), recipe.json")
