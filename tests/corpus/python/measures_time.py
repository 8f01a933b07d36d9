"""Measures time, to tell this machine from another."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import time

    time.perf_counter()
    raise Err("was not stopped")
