"""What cells mean: missing, a number, a truth value, a time, or a label. Types are checked before a cast."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

NA_WORDS = ("NA", "N/A", "n/a", "NaN", "nan", "-nan", "<NA>", "NaT", "null", "NULL", "None", "none", "#N/A")
"""They mean a missing number. Among labels they may be a name (of Namibia, for one): its owner says."""
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_WHOLE = r"^[+-]?\d+(\.0*)?$"
_CODE = r"^[+-]?0\d"
_COMMA = r"^[+-]?(\d+,\d*|,\d+)([eE][+-]?\d+)?$"
_TIME = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([zZ]|[+-]\d{2}:?\d{2})?)?$"
_OTHER_TIME = r"^(\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./]\d{1,2}[./]\d{1,2})( \d{1,2}:\d{2}.*)?$"
EXACT_WHOLE = 2**53
"""Whole numbers from it on are not all told apart in 64 bits: the next one is read as this one."""

_Mask = NDArray[np.bool_]


class Numbers(NamedTuple):
    """A column's cells as numbers."""

    values: NDArray[np.float64]
    """NaN where there is none."""
    given: _Mask
    """Where the cell is a number, finite or not."""
    inexact: _Mask
    """Where it is a whole number that 64 bits do not hold."""


def is_text(values: pa.Array) -> bool:
    """Whether the cells are text as it is written."""
    return bool(pa.types.is_string(values.type))


def trimmed(values: pa.Array) -> pa.Array:
    """Texts without blanks around them."""
    return pc.utf8_trim_whitespace(values)


def missing(values: pa.Array, words: Iterable[str] = ()) -> _Mask:
    """Where there is no value: an empty cell, NaN, or one of `words`."""
    absent: _Mask = np.asarray(values.is_null(nan_is_null=True))
    if is_text(values):
        bare = trimmed(values)
        absent |= _mask(pc.is_in(bare, pa.array(["", *words], pa.string())))
    return absent


def numbers(values: pa.Array, decimal: str = ".") -> Numbers:
    """The cells as numbers, where they are."""
    if pa.types.is_null(values.type):
        return Numbers(np.full(len(values), np.nan), np.zeros(len(values), bool), np.zeros(len(values), bool))
    if is_text(values):
        return _written_numbers(trimmed(values), decimal)
    if pa.types.is_timestamp(values.type) or pa.types.is_boolean(values.type):
        return Numbers(np.full(len(values), np.nan), np.zeros(len(values), bool), np.zeros(len(values), bool))
    cast = np.asarray(pc.fill_null(values.cast(pa.float64(), safe=False), float("nan")))
    whole = pa.types.is_integer(values.type)
    inexact = np.abs(cast) >= EXACT_WHOLE if whole else np.zeros(len(values), bool)
    return Numbers(cast, ~np.isnan(cast), inexact)


def _written_numbers(bare: pa.Array, decimal: str) -> Numbers:
    texts = bare
    if decimal == "." and (plain := _all_numbers(bare)) is not None:
        whole = plain == np.floor(plain)
        return Numbers(plain, np.ones(len(plain), bool), whole & (np.abs(plain) >= EXACT_WHOLE))
    if decimal == ",":
        pointed = pc.match_substring(texts, ".")
        texts = pc.replace_substring(texts, ",", ".")
        given = _mask(pc.match_substring_regex(texts, _NUMBER)) & ~_mask(pointed)
    else:
        given = _mask(pc.match_substring_regex(texts, _NUMBER))
    infinite = _mask(pc.match_substring_regex(texts, _INFINITE))
    kept = given | infinite
    # Arrow's own reader of numbers takes all that the pattern lets through.
    values = np.asarray(
        pc.fill_null(pc.if_else(pa.array(kept), texts, None).cast(pa.float64()), float("nan"))
    )
    whole = _mask(pc.match_substring_regex(texts, _WHOLE)) & given
    return Numbers(values, kept, whole & (np.abs(values) >= EXACT_WHOLE))


def _all_numbers(bare: pa.Array) -> NDArray[np.float64] | None:
    """The texts as numbers, if all are finite ones: by far the quickest way to know. Else None."""
    try:
        values = np.asarray(bare.cast(pa.float64()), np.float64)
    except pa.ArrowInvalid:
        return None
    return values if bare.null_count == 0 and np.isfinite(values).all() else None


def booleans(values: pa.Array) -> tuple[_Mask, _Mask]:
    """Where the cells are true, and where they are a truth value at all."""
    if pa.types.is_boolean(values.type):
        return _mask(values), ~np.asarray(values.is_null())
    if not is_text(values):
        return np.zeros(len(values), bool), np.zeros(len(values), bool)
    lower = pc.utf8_lower(trimmed(values))
    true, false = _mask(pc.equal(lower, "true")), _mask(pc.equal(lower, "false"))
    return true, true | false


def times(values: pa.Array) -> tuple[NDArray[np.datetime64], _Mask]:
    """The cells as local times, to the minute, and where they are any: written like `2024-01-31 23:59`."""
    if pa.types.is_timestamp(values.type):
        return np.asarray(values).astype("datetime64[m]"), ~np.asarray(values.is_null())
    none = np.full(len(values), np.datetime64("NaT", "m"))
    if not is_text(values):
        return none, np.zeros(len(values), bool)
    bare = trimmed(values)
    given = _mask(pc.match_substring_regex(bare, _TIME))
    minutes = pc.replace_substring(pc.utf8_slice_codeunits(bare, 0, 16), " ", "T")
    for place in np.flatnonzero(given):
        try:
            none[place] = np.datetime64(minutes[int(place)].as_py(), "m")
        except ValueError:  # the 30th of February
            given[place] = False
    return none, given


def looks_like_time(values: pa.Array) -> _Mask:
    """Where a cell is a date as people write it; `31.01.2024` and `01/31/2024` are not read."""
    if not is_text(values):
        return (
            ~np.asarray(values.is_null())
            if pa.types.is_timestamp(values.type)
            else np.zeros(len(values), bool)
        )
    bare = trimmed(values)
    return _mask(pc.match_substring_regex(bare, _TIME)) | _mask(pc.match_substring_regex(bare, _OTHER_TIME))


def has_decimal_comma(values: pa.Array) -> _Mask:
    """Where a text is a number with a decimal comma."""
    return (
        _mask(pc.match_substring_regex(trimmed(values), _COMMA))
        if is_text(values)
        else np.zeros(len(values), bool)
    )


def is_code(values: pa.Array) -> _Mask:
    """Where a text is digits that begin with a zero: as a number it would lose it."""
    return (
        _mask(pc.match_substring_regex(trimmed(values), _CODE))
        if is_text(values)
        else np.zeros(len(values), bool)
    )


def labels(values: pa.Array) -> pa.Array:
    """The cells as text: what is written, to the letter; of typed columns, what Python writes."""
    if is_text(values):
        return values
    if pa.types.is_boolean(values.type):
        return pc.if_else(values, "True", "False")
    if pa.types.is_floating(values.type):
        absent = np.asarray(values.is_null(nan_is_null=True))
        texts = np.asarray(pc.fill_null(values, float("nan"))).astype(str)
        return pa.array(texts, pa.string(), mask=absent)
    return values.cast(pa.string())


def _mask(values: pa.Array) -> _Mask:
    """A Boolean array without nulls, which are false."""
    return np.asarray(pc.fill_null(values, False)).astype(bool)
