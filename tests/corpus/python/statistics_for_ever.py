"""Asks for the statistics for ever."""
# expects: builder-out-of-fuel

from wit_world.imports import dataset_statistics


def build(request):
    while True:
        dataset_statistics.input_quantiles()
