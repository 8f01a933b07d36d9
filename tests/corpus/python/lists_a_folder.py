"""Lists the host's folder."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import os

    os.listdir("/")
    raise Err("was not stopped")
