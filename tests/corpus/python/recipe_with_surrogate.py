"""The recipe holds a lone surrogate."""
# expects: builder-trapped

from wit_world.imports import types


def build(request):
    return types.Plan(graph=b"", recipe="\ud800")
