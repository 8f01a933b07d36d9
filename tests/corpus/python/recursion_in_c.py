"""Recursion through C code of the interpreter, past its own limit."""
# expects: builder-stack-overflow
# limits: fuel=4000000000 run_seconds=30


def build(request):
    import sys

    sys.setrecursionlimit(2**31 - 1)
    nested = []
    for _ in range(20_000):
        nested = [nested]
    return repr(nested)
