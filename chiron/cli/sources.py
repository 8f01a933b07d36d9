"""The options that say how a source of data is meant: of `data inspect`, `data encrypt`, `builder run`."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chiron.wire.contract import InputType, Task

if TYPE_CHECKING:
    from chiron import Description, RowsOptions, SourceOptions
    from chiron.client.schemas import Reading, SchemaFile

SourceArgument = Annotated[
    str,
    typer.Argument(help="sklearn:digits, a .npz file, a table (.csv, .parquet, …), or class folders (.zip)."),
]
_TABLES, _IMAGES, _DATA = "How tables are meant", "How images are meant", "How the data is meant"
_Columns = list[str] | None


def _of_text(name: str, help_text: str, metavar: str) -> Any:
    return typer.Option(name, help=help_text, metavar=metavar, rich_help_panel="How files are read")


Delimiter = Annotated[
    str | None, _of_text("--delimiter", "Between cells: comma, semicolon, tab, bar, or a character.", "MARK")
]
Encoding = Annotated[str | None, _of_text("--encoding", "utf-8, utf-16, cp1252, latin-1, …", "NAME")]
Quote = Annotated[str | None, _of_text("--quote", "Around cells: a character.", "MARK")]
Decimal = Annotated[str | None, _of_text("--decimal", "The decimal mark: . or ,", "MARK")]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line names the columns.",
        rich_help_panel="How files are read",
    ),
]
Comment = Annotated[str | None, _of_text("--comment", "Leave out lines that begin with it.", "MARK")]
Sheet = Annotated[str | None, _of_text("--sheet", "Of a workbook.", "NAME")]
NaValues = Annotated[
    list[str] | None, _of_text("--na-value", "A text that means a missing value; repeatable.", "TEXT")
]
ShowValues = Annotated[
    bool,
    typer.Option(
        "--show-values", help="Errors may quote cells of the data.", rich_help_panel="How files are read"
    ),
]


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
    date: Annotated[
        _Columns,
        typer.Option(
            metavar="COLUMN[=PARTS]",
            help="A column of dates; each part becomes a number. `born=year,month` names the parts.",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    id_: Annotated[
        _Columns,
        typer.Option(
            "--id", metavar="COLUMN", help="No input: it goes to the output.", rich_help_panel=_TABLES
        ),
    ] = None,
    drop: Annotated[
        _Columns, typer.Option(metavar="COLUMN", help="Leave a column out.", rich_help_panel=_TABLES)
    ] = None,
    keep: Annotated[
        _Columns,
        typer.Option(
            metavar="COLUMN", help="A column is meant as it is, though it looks odd.", rich_help_panel=_TABLES
        ),
    ] = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quote: Quote = None,
    decimal: Decimal = None,
    header: Header = None,
    comment: Comment = None,
    sheet: Sheet = None,
    na_value: NaValues = None,
    schema: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take the data as this file says; where there is none, write what was settled.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    show_values: ShowValues = False,
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
        dates=_several(date),
        ids=_several(id_),
        drop=_several(drop),
        keep=_several(keep),
        reading=reading_of(delimiter, encoding, quote, decimal, header, comment, sheet, na_value),
        schema=read_schema(schema) if schema is not None and schema.exists() else None,
        show_values=show_values or None,
    )


def _row_options(
    *,
    id_: Annotated[
        _Columns,
        typer.Option(
            "--id", metavar="COLUMN", help="No input: it goes to the output.", rich_help_panel=_TABLES
        ),
    ] = None,
    drop: Annotated[
        _Columns, typer.Option(metavar="COLUMN", help="Leave a column out.", rich_help_panel=_TABLES)
    ] = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    quote: Quote = None,
    decimal: Decimal = None,
    header: Header = None,
    comment: Comment = None,
    sheet: Sheet = None,
    na_value: NaValues = None,
    show_values: ShowValues = False,
) -> "RowsOptions":
    """What the options say of a file of rows to predict.

    Raises:
        ConfigurationInvalid: one of them cannot be meant.
    """
    from chiron import RowsOptions
    from chiron.client.schemas import AS_FOUND

    reading = reading_of(delimiter, encoding, quote, decimal, header, comment, sheet, na_value)
    return RowsOptions(reading or AS_FOUND, tuple(id_ or ()), tuple(drop or ()), show_values)


def with_source_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with what says how a source is meant in place of its parameter `options`."""
    return _with(command, _options)


def with_row_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with what says how rows to predict are read in place of its parameter `options`."""
    return _with(command, _row_options)


def _with(command: Callable[..., None], declared: Callable[..., Any]) -> Callable[..., None]:
    ours, its = inspect.signature(declared).parameters, inspect.signature(command).parameters

    @wraps(command)
    def taking(**given: Any) -> None:
        # A command may want an option of ours itself, too.
        wanted = {name: given[name] for name in its if name in given}
        command(**wanted, options=declared(**{name: given[name] for name in ours}))

    kept = [parameter for name, parameter in its.items() if name != "options" and name not in ours]
    of_keywords = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in [*kept, *ours.values()]]
    taking.__signature__ = inspect.Signature(of_keywords)  # type: ignore[attr-defined]
    # Of the parameters above: the wrapped one's hints name types that are imported for type checkers only.
    taking.__annotations__ = {}
    return taking


def reading_of(
    delimiter: str | None,
    encoding: str | None,
    quote: str | None,
    decimal: str | None,
    header: bool | None,
    comment: str | None,
    sheet: str | None,
    na_values: list[str] | None,
) -> "Reading | None":
    """How a file is read by these options; None where none was given.

    Raises:
        ConfigurationInvalid: one of them cannot be meant.
    """
    from pydantic import ValidationError

    from chiron import ConfigurationInvalid
    from chiron.client.schemas import Reading

    marks = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|"}
    given = {
        "delimiter": marks.get(delimiter, delimiter) if delimiter else None,
        "encoding": encoding,
        "quote": quote,
        "decimal": decimal,
        "header": header,
        "comment": comment,
        "sheet": sheet,
        "na_values": tuple(na_values) if na_values else None,
    }
    if not any(value is not None for value in given.values()):
        return None
    try:
        return Reading.model_validate(given)
    except ValidationError as error:
        wrong = str(error.errors()[0]["loc"][0]).replace("_", "-")
        raise ConfigurationInvalid(f"--{wrong.removesuffix('s')} cannot be meant so: see --help") from None


def read_schema(path: Path) -> "SchemaFile":
    """The file that an earlier `--schema` wrote.

    Raises:
        ConfigurationInvalid: it is none of this version.
    """
    from pydantic import ValidationError

    from chiron import ConfigurationInvalid
    from chiron.client.schemas import MAX_SCHEMA_BYTES, SchemaFile

    try:
        if path.stat().st_size > MAX_SCHEMA_BYTES:
            raise ConfigurationInvalid(f"{path} is larger than {MAX_SCHEMA_BYTES} bytes")
        return SchemaFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError:
        raise ConfigurationInvalid(
            f"{path} is no schema of this version: remove it, or name another"
        ) from None


def write_schema(path: Path | None, description: "Description") -> None:
    """Write what was settled of a source for the next file, if there is a path and no file yet.

    Raises:
        ConfigurationInvalid: nothing is settled of this kind of data, or it cannot be written.
    """
    from chiron import ConfigurationInvalid
    from chiron.cli.output import done
    from chiron.client.schemas import SchemaFile
    from chiron.client.store import write_private

    if path is None or path.exists():
        return
    if description.settled is None:
        raise ConfigurationInvalid("there is nothing to settle about this kind of data: leave --schema out")
    file = SchemaFile(task=description.task, class_names=description.class_names, settled=description.settled)
    try:
        # For its owner alone: it names columns, categories and classes.
        write_private(path, file.model_dump_json(indent=1, exclude_defaults=True).encode() + b"\n")
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be written: {error.strerror}") from error
    done(f"{path}: name it again for the next file (--schema)")


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
