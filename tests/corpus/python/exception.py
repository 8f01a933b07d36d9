"""Raises, and the text of its exception holds what it saw."""
# expects: builder-trapped


def build(request):
    raise ValueError("the first example is 3 1 4 1 5")
