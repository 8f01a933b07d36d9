"""A builder project: a folder with `builder.py` (or `builder.c`), `builder.toml` and `manifest.json`.

It is read here, and made anew from the template (`chiron builder new`).
"""

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from chiron.builder_kit.errors import ProjectInvalid
from chiron.wire.contract import BuilderManifest, Capability, ContractModel

SETTINGS, MANIFEST = "builder.toml", "manifest.json"
MODULE, C_MODULE = "builder.py", "builder.c"
_MAX_TEXT_BYTES = 2**20
_LEFT_OUT = frozenset({"__pycache__", "assets", "run"})

_TEMPLATE = Path(__file__).parent / "templates" / "python"
_NAME = TypeAdapter(BuilderManifest.model_fields["name"].rebuild_annotation())
_RENAMED = {"gitignore": ".gitignore"}

AssetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
RelativePath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}$")]


class Language(StrEnum):
    """What a builder is written in."""

    PYTHON = "python"
    C = "c"


class Settings(ContractModel):
    """`builder.toml`."""

    capabilities: frozenset[Capability] = frozenset()
    """What the component imports: every data owner has to grant all of it."""
    revises: bool = False
    """`builder.py` has a function `revise` too."""
    assets: dict[AssetName, RelativePath] = Field(default_factory=dict)
    """Pretrained tensors to carry: a name for `Asset("name/tensor")`, and a safetensors file."""


@dataclass(frozen=True)
class Project:
    """What is in the folder."""

    directory: Path
    language: Language
    settings: Settings
    manifest: BuilderManifest

    def sources(self) -> list[Path]:
        """The files that are compiled in, sorted; nothing under `assets` is."""
        patterns = ("*.py",) if self.language is Language.PYTHON else ("*.c", "*.h")
        paths = {p.relative_to(self.directory) for pattern in patterns for p in self.directory.rglob(pattern)}
        return [self.directory / path for path in sorted(paths) if _LEFT_OUT.isdisjoint(path.parts)]

    def assets(self) -> dict[str, Path]:
        """Name and file of each asset; raises `ProjectInvalid` where one is not there."""
        files = {name: self.directory / path for name, path in sorted(self.settings.assets.items())}
        for name, path in files.items():
            if not path.is_file():
                raise ProjectInvalid(f"asset {name}: there is no file {path}")
        return files


def read_project(directory: Path) -> Project:
    """Read a project's settings; raises `ProjectInvalid`, saying which file and why."""
    languages = {MODULE: Language.PYTHON, C_MODULE: Language.C}
    found = [language for name, language in languages.items() if (directory / name).is_file()]
    if len(found) != 1:
        raise ProjectInvalid(
            f"{directory} needs one of {MODULE} and {C_MODULE}; `chiron builder new` makes a project"
        )
    try:
        settings = Settings.model_validate(tomllib.loads(_text(directory / SETTINGS)))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ProjectInvalid(f"{directory / SETTINGS}: {error}") from error
    try:
        manifest = BuilderManifest.model_validate_json(_text(directory / MANIFEST))
    except ValidationError as error:
        raise ProjectInvalid(f"{directory / MANIFEST}: {error}") from error
    return Project(directory, found[0], settings, manifest)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise ProjectInvalid(f"{path} is larger than {_MAX_TEXT_BYTES} bytes")
        return path.read_text()
    except OSError as error:
        raise ProjectInvalid(f"{path} cannot be read") from error
    except UnicodeDecodeError as error:
        raise ProjectInvalid(f"{path} is not UTF-8 text") from error


def new_project(directory: Path) -> list[Path]:
    """Make a project that works, to be changed into the operator's own; returns the files made.

    It is named after its directory, which must not exist.

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
    # An installer that compiles what it installs leaves a folder of byte code among the files.
    for source in sorted(filter(Path.is_file, _TEMPLATE.iterdir())):
        target = directory / _RENAMED.get(source.name, source.name)
        target.write_text(source.read_text().replace("{{name}}", name))
        made.append(target)
    return made
