"""The learning rate of a step."""

import math

from chiron.wasm_sandbox.recipe import Constant, Cosine, OneCycle, Recipe, Step


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Of optimizer step `step` (from 0) of `steps`: linear warm-up, then the schedule over the rest."""
    peak = recipe.optimizer.learning_rate
    warmup = round(recipe.warmup * steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done, left = step - warmup, max(steps - warmup, 1)
    return peak * _factor(recipe.schedule, done / left)


def _factor(schedule: Constant | Step | Cosine | OneCycle, progress: float) -> float:
    """Factor of the learning rate at `progress` in 0..1 (1 excluded)."""
    if isinstance(schedule, Step):
        return schedule.factor ** sum(progress >= milestone for milestone in schedule.milestones)
    if isinstance(schedule, Cosine):
        return _between(1.0, schedule.final_fraction, progress)
    if isinstance(schedule, OneCycle):
        if progress < schedule.peak_at:
            return _between(schedule.initial_fraction, 1.0, progress / schedule.peak_at)
        return _between(1.0, schedule.final_fraction, (progress - schedule.peak_at) / (1 - schedule.peak_at))
    return 1.0


def _between(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
