"""Reads a file of the host."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    open("/proc/self/environ").read()
    raise Err("was not stopped")
