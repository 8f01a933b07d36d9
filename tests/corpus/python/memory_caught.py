"""Runs out of memory, catches it, and goes on asking."""
# expects: builder-out-of-fuel


def build(request):
    held = []
    while True:
        try:
            held.append(bytearray(2**24))
        except MemoryError:
            pass
