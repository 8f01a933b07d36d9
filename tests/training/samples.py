"""Small images and a table to train on, as jobs."""

from typing import Any

import numpy as np

from tests.support.jobs import Job, make_job

RNG = np.random.default_rng(11)
IMAGES = RNG.integers(0, 17, (120, 1, 8, 8)).astype(np.uint8)
CLASSES = (IMAGES.reshape(120, -1).mean(axis=1) > 8).astype(np.int64) + (IMAGES[:, 0, 0, 0] > 8)
ROWS = RNG.normal(size=(160, 6)).astype(np.float32)
VALUES = (ROWS @ RNG.normal(size=(6, 2))).astype(np.float32)


def image_job(**terms: Any) -> Job:
    return make_job(IMAGES, CLASSES, classes=3, rows=20, **terms)


def table_job(**terms: Any) -> Job:
    return make_job(ROWS, VALUES, rows=20, **terms)
