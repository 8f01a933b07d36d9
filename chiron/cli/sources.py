"""The options that say how a source of data is meant: of `data inspect`, `data encrypt`, `builder run`."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chiron.wire.contract import InputType, Task

if TYPE_CHECKING:
    from chiron import SourceOptions

SourceArgument = Annotated[
    str,
    typer.Argument(help="sklearn:digits, a .npz file, a table (.csv, .parquet, …), or class folders (.zip)."),
]
_TABLES, _IMAGES, _DATA = "How tables are meant", "How images are meant", "How the data is meant"
_Columns = list[str] | None


def _options(
    *,
    target: Annotated[
        str | None, typer.Option(help="The column to predict (the last one).", rich_help_panel=_TABLES)
    ] = None,
    task: Annotated[
        Task | None, typer.Option(help="What the targets are, if they do not tell.", rich_help_panel=_DATA)
    ] = None,
    dtype: Annotated[
        InputType | None, typer.Option(help="Element type of the inputs.", rich_help_panel=_TABLES)
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Shape of a row's inputs, as 1x28x28.", rich_help_panel=_TABLES)
    ] = None,
    categorical: Annotated[
        _Columns,
        typer.Option(
            metavar="COLUMN", help="A column of categories (one-hot); repeatable.", rich_help_panel=_TABLES
        ),
    ] = None,
    fill_missing: Annotated[
        bool | None,
        typer.Option(
            "--fill-missing", help="A missing number becomes its column's mean.", rich_help_panel=_TABLES
        ),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Scale to WIDTHxHEIGHT.", rich_help_panel=_IMAGES)
    ] = None,
    grey: Annotated[
        bool | None,
        typer.Option("--grey/--colour", help="One channel or three.", rich_help_panel=_IMAGES),
    ] = None,
) -> "SourceOptions":
    """What the options say.

    Raises:
        ConfigurationInvalid: one of them cannot be meant.
    """
    from chiron import SourceOptions

    return SourceOptions(
        target=target,
        task=task,
        input_dtype=dtype,
        input_shape=_dimensions(shape),
        image_size=_pair(image_size),
        grey=grey,
        categorical=_several(categorical),
        fill_missing=fill_missing,
    )


def with_source_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with the options above in place of its parameter `options`."""
    ours, its = inspect.signature(_options).parameters, inspect.signature(command).parameters

    @wraps(command)
    def taking(**given: Any) -> None:
        options = _options(**{name: given.pop(name) for name in ours})
        command(**given, options=options)

    kept = [parameter for name, parameter in its.items() if name != "options"]
    of_keywords = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in [*kept, *ours.values()]]
    taking.__signature__ = inspect.Signature(of_keywords)  # type: ignore[attr-defined]
    # Of the parameters above: the wrapped one's hints name types that are imported for type checkers only.
    taking.__annotations__ = {}
    return taking


def _several(values: list[str] | None) -> tuple[str, ...] | None:
    return tuple(values) if values else None


def _dimensions(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    from chiron import ConfigurationInvalid

    parts = text.lower().replace("×", "x").split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigurationInvalid(f"{text!r} is not a shape such as 1x28x28")
    return tuple(int(part) for part in parts)


def _pair(text: str | None) -> tuple[int, int] | None:
    size = _dimensions(text)
    if size is None:
        return None
    from chiron import ConfigurationInvalid

    if len(size) != 2:
        raise ConfigurationInvalid(f"{text!r} is not a size such as 32x32")
    return size[0], size[1]


Schema = Annotated[
    Path | None,
    typer.Option(
        "--schema",
        metavar="FILE",
        help="Write what was settled; where the file exists, take this data as it says.",
    ),
]
