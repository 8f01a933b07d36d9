"""Sleeps."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import time

    time.sleep(1)
    raise Err("was not stopped")
