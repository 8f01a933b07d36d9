"""Leaves a file behind."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    open("/tmp/left-behind", "w").write("data")
    raise Err("was not stopped")
