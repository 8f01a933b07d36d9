"""Prints what it saw."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    print("the first example is 3 1 4 1 5", flush=True)
    raise Err("was not stopped")
