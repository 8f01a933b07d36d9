"""Starts a process."""
# expects: builder-trapped

from componentize_py_types import Err


def build(request):
    import subprocess

    subprocess.run(["true"])
    raise Err("was not stopped")
