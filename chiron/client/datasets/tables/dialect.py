"""How a file of text is written: its encoding, delimiter and names, found out or as its owner says.

What is not certain is a doubt, never a guess: a table that is read the wrong way is damaged without a word.
"""

import codecs
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from chiron.client.datasets.understood import Doubt
from chiron.client.errors import SourceDoubtful, SourceInvalid
from chiron.client.schemas import Reading

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SAMPLE_LINES = 500
MAX_LINE_BYTES = 64 * 2**20
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_DECLARED = re.compile(r"sep=(.)\r?\n?")


@dataclass(frozen=True)
class Dialect:
    """How one file is written."""

    encoding: str
    delimiter: str
    quote: str
    header: bool
    comment: str | None
    first_line: int
    """Where the table begins: 2 after a line `sep=;`, as Excel writes it."""


def find_dialect(path: Path, reading: Reading) -> Dialect:
    """How the file is written; what `reading` says is taken as it is.

    Raises:
        SourceDoubtful: it can be read in more than one way.
        SourceInvalid: it cannot be read at all.
    """
    encoding = reading.encoding or _marked_encoding(path)
    sample = list(islice(decoded_lines(path, encoding, reading.comment, reading.quote or '"'), SAMPLE_LINES))
    declared = _DECLARED.fullmatch(sample[0][1]) if sample else None
    if declared:
        sample = sample[1:]
    if not sample:
        raise SourceInvalid(f"{path.name} has no rows")
    _refuse_comment(path, sample, reading)
    quote = reading.quote or '"'
    delimiter = (
        reading.delimiter or (declared and declared[1]) or _delimiter(path, [t for _, t in sample], quote)
    )
    dialect = Dialect(encoding, delimiter, quote, True, reading.comment, 2 if declared else 1)
    if reading.header is None:
        _refuse_numbers_for_names(path, next(_parsed([text for _, text in sample], delimiter, quote), []))
    return dialect if reading.header is not False else Dialect(**{**vars(dialect), "header": False})


def decoded_lines(path: Path, encoding: str, comment: str | None, quote: str) -> Iterator[tuple[int, str]]:
    """The file's lines with their numbers, without comments.

    Raises:
        SourceDoubtful: one of them is not of that encoding.
        SourceInvalid: there is no such encoding, or a line that no table has.
    """
    inside = False
    for number, text in enumerate(_texts(path, encoding), 1):
        if "\0" in text:
            raise SourceInvalid(
                f"{path.name}, line {number}: a NUL character. Is it text, and its encoding {encoding}? "
                "(--encoding)"
            )
        if comment and not inside and text.startswith(comment):
            continue
        inside ^= text.count(quote) % 2 == 1
        yield number, text


def _texts(path: Path, encoding: str) -> Iterator[str]:
    number = 0
    try:
        codecs.lookup(encoding)
        # "\n": a lone carriage return is no end of a line, and refused where one stands.
        with path.open(encoding=encoding, newline="\n") if _is_wide(encoding) else path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise SourceInvalid(f"{path.name}, line {number}: longer than {MAX_LINE_BYTES} bytes")
                yield line if isinstance(line, str) else _decoded(path, line, encoding, number)
    except LookupError as error:
        raise SourceInvalid(f"there is no encoding {encoding!r}: utf-8, utf-16, cp1252 or latin-1") from error
    except UnicodeError as error:
        raise SourceDoubtful(path.name, (_of_encoding(number + (_is_wide(encoding)), encoding),)) from error
    except OSError as error:
        raise SourceInvalid(f"{path.name} cannot be read: {error.strerror}") from error


def _decoded(path: Path, line: bytes, encoding: str, number: int) -> str:
    if line.isascii() and b"\x1b" not in line and b"+" not in line:
        # The same in all encodings that people have.
        return line.decode("ascii")
    # The mark stands at the beginning of the file only.
    text = line.decode("utf-8" if encoding == "utf-8-sig" and number > 1 else encoding)
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig") and _is_utf8(line):
        # Eight-bit encodings take anything; text of theirs is hardly ever valid UTF-8.
        says = f"line {number} is UTF-8 beyond ASCII, and {encoding} was named"
        raise SourceDoubtful(path.name, (Doubt("encoding", says, ("--encoding utf-8",)),))
    return text


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not line.isascii()


def _is_wide(encoding: str) -> bool:
    """Whether a line's end is more than one byte."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def _of_encoding(line: int, encoding: str) -> Doubt:
    others = [
        name for name in ("utf-8", "cp1252", "latin-1") if codecs.lookup(name) != codecs.lookup(encoding)
    ]
    says = f"line {line} is not {encoding.removesuffix('-sig').upper()}"
    return Doubt("encoding", says, tuple(f"--encoding {name}" for name in others))


def _marked_encoding(path: Path) -> str:
    try:
        with path.open("rb") as file:
            beginning = file.read(4)
    except OSError as error:
        raise SourceInvalid(f"{path.name} cannot be read: {error.strerror}") from error
    return next((name for mark, name in _BYTE_ORDER_MARKS if beginning.startswith(mark)), "utf-8")


def _refuse_comment(path: Path, sample: list[tuple[int, str]], reading: Reading) -> None:
    number, text = sample[0]
    if text.startswith("#") and reading.comment is None and reading.header is None:
        says = f"line {number} begins with '#': a comment, or the columns' names?"
        raise SourceDoubtful(path.name, (Doubt("comment", says, ("--comment '#'", "--header")),))


def _parsed(lines: list[str], delimiter: str, quote: str) -> Iterator[list[str]]:
    """Records of a sample, whose last one may be cut off."""
    try:
        yield from csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True)
    except csv.Error:
        return


def _delimiter(path: Path, lines: list[str], quote: str) -> str:
    widths = {mark: [len(row) for row in _parsed(lines, mark, quote) if row] for mark in DELIMITERS}
    fitting = [mark for mark, found in widths.items() if len(set(found)) == 1 and found[0] > 1]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = " or ".join(DELIMITERS[mark] for mark in fitting)
        options = tuple(f"--delimiter {DELIMITERS[mark]}" for mark in fitting)
        raise SourceDoubtful(path.name, (Doubt("delimiter", f"the columns may end with {names}", options),))
    # No mark fits each line: the likeliest one, so that the reader names the line that does not fit.
    return max(DELIMITERS, key=lambda mark: sum(width > 1 for width in widths[mark]))


def _refuse_numbers_for_names(path: Path, names: list[str]) -> None:
    numbers = [name for name in names if _NUMBER.fullmatch(name.strip())]
    counted = [str(place) for place in range(len(names))]
    # pandas counts columns that have no names.
    if numbers and names not in (counted, ["", *counted[:-1]]):
        says = f"the first line holds numbers in {len(numbers)} of {len(names)} columns: are they names?"
        raise SourceDoubtful(path.name, (Doubt("header", says, ("--no-header", "--header")),))
