"""Starts a thread."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import threading

    threading.Thread(target=build).start()
    raise Err("was not stopped")
