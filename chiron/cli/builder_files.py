"""Where a builder's component and manifest are, and reading them with a bound."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from chiron.client.errors import ConfigurationInvalid
from chiron.wire.contract import MAX_COMPONENT_BYTES, BuilderManifest

COMPONENT = "builder.wasm"
MANIFEST = "manifest.json"
PathArgument = Annotated[Path, typer.Argument(help="Component (.wasm), or the directory that holds it.")]
ManifestOption = Annotated[
    Path | None, typer.Option("--manifest", help=f"Public manifest; {MANIFEST} beside the component.")
]


def read_builder(path: Path, manifest: Path | None) -> tuple[bytes, BuilderManifest]:
    """Component and manifest, read with a bound.

    Raises:
        ConfigurationInvalid: one of them is missing, too large or malformed.
    """
    component = path / COMPONENT if path.is_dir() else path
    described = manifest or component.with_name(MANIFEST)
    if path.is_dir() and not component.exists():
        raise ConfigurationInvalid(f"{path} has no {COMPONENT} yet: `chiron builder build {path}` makes it")
    try:
        if component.stat().st_size > MAX_COMPONENT_BYTES:
            raise ConfigurationInvalid(f"{component} is larger than {MAX_COMPONENT_BYTES} bytes")
        return component.read_bytes(), BuilderManifest.model_validate_json(described.read_bytes())
    except OSError as error:
        raise ConfigurationInvalid(f"{error.filename} cannot be read") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise ConfigurationInvalid(f"{described} is no builder manifest: {wrong}") from error
