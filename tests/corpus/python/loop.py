"""Loops for ever."""
# expects: builder-out-of-fuel


def build(request):
    while True:
        pass
