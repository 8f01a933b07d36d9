"""A graph of three megabytes."""
# expects: plan-too-large
# limits: fuel=4000000000

from wit_world.imports import types


def build(request):
    return types.Plan(graph=bytes(3 * 2**20), recipe="{}")
