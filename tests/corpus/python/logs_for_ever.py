"""Logs for ever."""
# expects: builder-out-of-fuel
# limits: fuel=40000000

from wit_world.imports import log


def build(request):
    while True:
        log.write(log.Level.INFO, "data" * 1000)
