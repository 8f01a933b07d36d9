"""Asks for the statistics for ever."""
# expects: builder-out-of-fuel
# limits: fuel=40000000

from wit_world.imports import dataset_statistics


def build(request):
    while True:
        dataset_statistics.input_quantiles()
