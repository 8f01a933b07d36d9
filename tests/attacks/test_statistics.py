"""Data and recipes that make a library warn: a warning would be a line that data decide."""

import asyncio
import time
import warnings
from random import Random

import numpy as np
import pytest

from chiron.runtime.datasets.statistics import collect
from chiron.wasm_sandbox.recipe import matches
from chiron.wire.contract import Capability, CapabilityGrants
from tests.support.jobs import Job, make_job

GRANTS = CapabilityGrants(granted=frozenset(Capability), sample_examples=4)
NASTY = {"nan": np.nan, "infinity": np.inf, "huge": 3.4e38, "denormal": 1e-45}


def _collected(job: Job) -> None:
    asyncio.run(collect(job.dataset(), range(job.spec.dataset.chunks), GRANTS, 7))


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY.keys())
@pytest.mark.parametrize("signs", [1, -1])
def test_statistics_of_data_that_are_not_numbers_warn_of_nothing(value: float, signs: int) -> None:
    x = np.random.default_rng(0).random((128, 4), dtype=np.float32)
    y = x[:, :1].copy()
    x[5, 2], x[6, 2], y[3] = value, signs * value, value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _collected(make_job(x, np.arange(128) % 3, classes=3))
        _collected(make_job(x, y))


def test_patterns_of_any_characters_are_read_without_a_warning() -> None:
    random = Random(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3000):
            pattern = "".join(random.choice("[]!^-\\&~|*?a.b\n") for _ in range(random.randint(1, 8)))
            matches("ab", (pattern,))


def test_patterns_of_many_stars_take_no_time() -> None:
    names = ["a" * 250 + str(number) for number in range(100)]
    begun = time.process_time()
    assert not any(matches(name, tuple("*a" * 99 + "!" for _ in range(64))) for name in names)
    assert time.process_time() - begun < 5
