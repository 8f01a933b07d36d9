"""`chiron image`: build and measure the enclave image."""

from pathlib import Path
from typing import Annotated

import typer

from chiron.cli.options import Json
from chiron.cli.output import done, note, print_json
from chiron.cli.places import IMAGE_FOLDER, STATE_DIR
from enclave_image.build import build_image
from enclave_image.manifest import ImageManifest
from enclave_image.measurement import examine

app = typer.Typer(no_args_is_help=True, help="The enclave image: everything that runs inside, measured.")

_Directory = Annotated[Path, typer.Argument(help="The image's directory.")]


@app.command("build")
def build_command(directory: _Directory = STATE_DIR / IMAGE_FOLDER, json: Json = False) -> None:
    """Build the image from this machine's locked packages and this source, reproducibly.

    The measurement is what owners put into their policy. The same source, packages, interpreter and C library
    give the same one, whoever builds it and wherever.

    **Example**: `chiron image build`

    **Example**: `chiron image build /tmp/image --json`
    """
    manifest = build_image(directory, report=lambda stage: note(f"image: {stage}"))
    if json:
        _print_facts(directory, manifest)
        return
    done(f"{directory}: {manifest.files} files, {manifest.size / 2**20:.0f} MiB")
    print(manifest.measurement)


@app.command("measure")
def measure_command(directory: _Directory = STATE_DIR / IMAGE_FOLDER, json: Json = False) -> None:
    """Tell the measurement of an image as it is on disk now: one changed byte changes it.

    **Example**: `chiron image measure`
    """
    manifest = examine(directory)
    if json:
        _print_facts(directory, manifest)
        return
    print(manifest.measurement)


def _print_facts(directory: Path, manifest: ImageManifest) -> None:
    print_json(
        {
            "directory": str(directory),
            "measurement": manifest.measurement,
            "files": manifest.files,
            "bytes": manifest.size,
        }
    )
