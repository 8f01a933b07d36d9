"""Asks for four gigabytes of randomness."""
# expects: builder-invalid-value

from wit_world.imports import random


def build(request):
    return random.bytes(2**32 - 1)
