"""Asks for randomness that is not the job's."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import os

    os.urandom(16)
    raise Err("was not stopped")
