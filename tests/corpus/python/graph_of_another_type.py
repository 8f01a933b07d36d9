"""The graph is a number."""
# expects: builder-trapped

from wit_world.imports import types


def build(request):
    return types.Plan(graph=7, recipe="{}")
