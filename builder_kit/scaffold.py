"""`chiron builder new`: a project that works, to be changed into the operator's own."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from chiron.builder_kit.errors import ProjectInvalid
from chiron.wire.contract import BuilderManifest

_TEMPLATE = Path(__file__).parent / "templates" / "python"
_NAME = TypeAdapter(BuilderManifest.model_fields["name"].rebuild_annotation())
_RENAMED = {"gitignore": ".gitignore"}


def new_project(directory: Path) -> list[Path]:
    """Make a project named after its directory, which must not exist; returns the files made.

    Raises:
        ProjectInvalid: the directory exists, or its name is no builder's name.
    """
    try:
        name = _NAME.validate_python(directory.name)
    except ValidationError as error:
        raise ProjectInvalid(
            f"{directory.name!r} is no name for a builder: lower-case letters, digits and -, at most 63"
        ) from error
    try:
        directory.mkdir(parents=True)
    except FileExistsError as error:
        raise ProjectInvalid(f"{directory} exists already") from error
    made = []
    for source in sorted(_TEMPLATE.iterdir()):
        target = directory / _RENAMED.get(source.name, source.name)
        target.write_text(source.read_text().replace("{{name}}", name))
        made.append(target)
    return made
