"""A recipe of a megabyte."""
# expects: plan-too-large

from wit_world.imports import types


def build(request):
    return types.Plan(graph=b"", recipe=" " * 2**20)
