"""Asks for randomness for ever."""
# expects: builder-out-of-fuel
# limits: fuel=40000000

from wit_world.imports import random


def build(request):
    while True:
        random.bytes(65536)
