"""Canonical safetensors: named arrays of a form both sides already know, as one byte string.

The form (names, types, shapes) is public and fixed before any byte is read, so there is exactly one header
for it, and the reader compares instead of parsing: nothing in the bytes can choose a size, an offset or a
type. The bytes are those of the safetensors library (tensors by element type, largest first, then by name;
the header padded with spaces to a multiple of 8), so any safetensors reader opens them too.
"""

import json
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chiron.runtime.errors import TensorsMalformed

_LENGTH_BYTES = 8
_ALIGNMENT = 8
_NAMES = {
    np.dtype("int64"): "I64",
    np.dtype("float32"): "F32",
    np.dtype("int32"): "I32",
    np.dtype("uint8"): "U8",
}
"""The element types we carry, in the order in which the safetensors library writes tensors."""
_ORDER = list(_NAMES)


class Form(NamedTuple):
    """Element type and shape of one array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the array's elements."""
        return self.dtype.itemsize * prod(self.shape)


def is_blank(rows: NDArray[Any]) -> bool:
    """Whether every byte is zero (a float's -0.0 is not), as filled rows are. `rows` must be contiguous."""
    return not rows.view(np.uint8).any()


class TensorLayout:
    """Where each array of a form lies in the canonical bytes."""

    def __init__(self, forms: Mapping[str, Form]) -> None:
        self.forms = dict(sorted(forms.items(), key=lambda item: (_ORDER.index(item[1].dtype), item[0])))
        self._spans: dict[str, tuple[int, int]] = {}
        end = 0
        for name, form in self.forms.items():
            self._spans[name] = (end, end + form.size)
            end += form.size
        self._header = self._canonical_header()
        self.size = len(self._header) + end

    def _canonical_header(self) -> bytes:
        entries = {
            name: {
                "dtype": _NAMES[form.dtype],
                "shape": list(form.shape),
                "data_offsets": list(self._spans[name]),
            }
            for name, form in self.forms.items()
        }
        text = json.dumps(entries, separators=(",", ":")).encode()
        text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
        return len(text).to_bytes(_LENGTH_BYTES, "little") + text

    def dump(self, arrays: Mapping[str, NDArray[Any]]) -> bytes:
        """The canonical bytes, `size` long, of arrays that have this form already.

        Raises:
            TensorsMalformed: names, types or shapes are not those of the form.
        """
        out = bytearray(self.size)
        self.dump_into(out, arrays)
        return bytes(out)

    def dump_into(self, out: bytearray | memoryview, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the canonical bytes into `out`, which is `size` long.

        Raises:
            TensorsMalformed: names, types or shapes are not those of the form.
        """
        if arrays.keys() != self.forms.keys():
            raise TensorsMalformed(f"expected the arrays {sorted(self.forms)}")
        out[: len(self._header)] = self._header
        for name, form in self.forms.items():
            array = arrays[name]
            if array.dtype != form.dtype or array.shape != form.shape:
                raise TensorsMalformed(f"{name} must be {form.dtype} {list(form.shape)}")
            self._view(out, name)[...] = array

    def load(self, data: bytes) -> dict[str, NDArray[Any]]:
        """Read-only views into `data`.

        Raises:
            TensorsMalformed: the bytes are not those that `dump` writes for this form.
        """
        if len(data) != self.size or not data.startswith(self._header):
            raise TensorsMalformed("not the canonical form that was declared")
        return {name: self._view(data, name) for name in self.forms}

    def _view(self, buffer: bytes | bytearray | memoryview, name: str) -> NDArray[Any]:
        form = self.forms[name]
        offset = len(self._header) + self._spans[name][0]
        flat = np.frombuffer(buffer, form.dtype.newbyteorder("<"), prod(form.shape), offset)
        return flat.reshape(form.shape)
