"""Answers that it cannot; the text holds what it saw."""
# expects: builder-refused-request

from componentize_py_types import Err


def build(request):
    raise Err("the first example is 3 1 4 1 5")
