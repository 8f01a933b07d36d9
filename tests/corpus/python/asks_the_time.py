"""Asks what time it is."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import time

    time.time()
    raise Err("was not stopped")
