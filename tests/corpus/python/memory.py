"""Doubles what it holds until there is no more."""
# expects: builder-trapped
# limits: fuel=4000000000


def build(request):
    held = bytearray(b"x" * 2**20)
    while True:
        held += held
