"""Real data for the examples: photographs, and the documentation of installed libraries."""

import re
import zipfile
from io import BytesIO
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.builders.conftest import ROOT

CIFAR = ROOT.parent / "shared" / "data" / "cifar10-subset.zip"


def photographs(classes: int, of_each: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [n, 3, 32, 32] of some classes, mixed; skips the test where there are none."""
    if not CIFAR.exists():
        pytest.skip("no image data on this machine")
    x, y = [], []
    with zipfile.ZipFile(CIFAR) as archive:
        names = [name for name in archive.namelist() if name.startswith("train/")]
        labels = sorted({Path(name).parent.name for name in names})[:classes]
        for label, folder in enumerate(labels):
            for name in [name for name in names if Path(name).parent.name == folder][:of_each]:
                image = Image.open(BytesIO(archive.read(name))).convert("RGB")
                x.append(np.asarray(image, np.uint8).transpose(2, 0, 1))
                y.append(label)
    order = np.random.default_rng(1).permutation(len(x))
    return np.stack(x)[order], np.asarray(y, np.int64)[order]


def documentation() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Paragraphs of three libraries' documentation as token numbers, and which library each is from."""
    rows, labels = [], []
    for label, library in enumerate(("numpy", "sqlalchemy", "sklearn.linear_model")):
        module = __import__(library, fromlist=["*"])
        parts = [str(getattr(module, name).__doc__) for name in sorted(dir(module))]
        paragraphs = {part.strip() for part in re.split(r"\n\s*\n", "\n\n".join(parts)) if len(part) > 120}
        for paragraph in sorted(paragraphs)[:500]:
            words = re.findall(r"[a-z]{2,}", paragraph.lower())[:40]
            numbers = [1 + crc32(word.encode()) % 4095 for word in words]
            rows.append(numbers + [0] * (40 - len(numbers)))
            labels.append(label)
    order = np.random.default_rng(1).permutation(len(rows))
    return np.asarray(rows, np.float32)[order], np.asarray(labels, np.int64)[order]
