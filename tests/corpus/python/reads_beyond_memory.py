"""Reads an address that it made up."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import ctypes

    ctypes.string_at(0xFFFFFF00, 4096)
    raise Err("was not stopped")
