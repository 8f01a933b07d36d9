"""Answers a refusal of four megabytes."""
# expects: builder-refused-request

from componentize_py_types import Err


def build(request):
    raise Err("data" * 2**20)
