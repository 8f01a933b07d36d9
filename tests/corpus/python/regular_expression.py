"""A regular expression that backtracks for ever."""
# expects: builder-out-of-fuel


def build(request):
    import re

    return re.match("(a+)+$", "a" * 64 + "b")
