"""Batches gathered for several steps: the portion's own rows, in order, a bounded number at a time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chiron.runtime.datasets import Examples
from chiron.runtime.training.batches import GATHERED_BYTES, Batch, Portion, gather
from chiron.runtime.training.losses import TargetEncoder
from chiron.wasm_sandbox.recipe import Recipe
from chiron.wire.contract import BuildRequest, InputType, Task

WIDTH = 2**14
REQUEST = BuildRequest(
    task=Task.CLASSIFICATION,
    input_shape=(WIDTH,),
    input_dtype=InputType.UINT8,
    classes=3,
    max_parameters=1,
)


@given(st.lists(st.integers(1, 90), max_size=12), st.integers(0, 2**32 - 1))
def test_gathered_steps_are_the_batches(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 100)
    x = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None], (100, WIDTH))
    batches = [Batch(7 + number, rng.permutation(100)[:size]) for number, size in enumerate(sizes)]
    found = []
    for gathered in gather(Portion(Examples(x, y), batches), TargetEncoder(Recipe().loss, REQUEST)):
        assert len(gathered.steps) == 1 or gathered.x.nbytes <= GATHERED_BYTES
        assert not np.shares_memory(gathered.x, x)
        for step, rows in gathered.steps:
            found.append(Batch(step, gathered.x[rows, 0].astype(np.int64)))
            np.testing.assert_array_equal(gathered.y[rows], y[found[-1].rows])
            np.testing.assert_array_equal(gathered.dense[rows].argmax(axis=1), gathered.y[rows])
    assert [batch.step for batch in found] == [batch.step for batch in batches]
    for mine, wanted in zip(found, batches, strict=True):
        np.testing.assert_array_equal(mine.rows, wanted.rows)
