"""Compiles source that is nested deeper than the compiler goes."""
# expects: builder-trapped
# limits: fuel=4000000000


def build(request):
    return eval("(" * 100_000 + ")" * 100_000)
