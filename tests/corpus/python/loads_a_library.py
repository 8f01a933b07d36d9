"""Loads a native library."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import ctypes

    ctypes.CDLL("libc.so.6")
    raise Err("was not stopped")
