"""Recursion without end: Python stops it, nobody catches it."""
# expects: builder-trapped


def build(request):
    return build(request)
