"""Recursion through C code of the interpreter, past its own limit."""
# expects: builder-stack-overflow
# limits: fuel=1000000000


def build(request):
    import sys

    sys.setrecursionlimit(2**31 - 1)
    nested = []
    for _ in range(20_000):
        nested = [nested]
    return repr(nested)
