"""A power of a billion digits."""
# expects: builder-out-of-fuel


def build(request):
    return 7 ** (7**12)
