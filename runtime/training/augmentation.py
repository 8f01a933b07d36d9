"""Random changes of training examples: whole batches at a time, in the inputs' own type.

Order: crop, flips, cutout, then mixup. Pixels are as the owner's dataset holds them, before `normalise`.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from chiron.wasm_sandbox.recipe import Augmentations, Layout


def augment(x: NDArray[Any], settings: Augmentations, generator: np.random.Generator) -> NDArray[Any]:
    """A batch [n, …] after crop, flips and cutout; may be `x` itself, changed."""
    if not settings.spatial:
        return x
    last = x.ndim == 4 and settings.layout is Layout.CHANNELS_LAST
    images = np.moveaxis(x, -1, 1) if last else x
    if settings.crop_padding:
        images = _crop(images, settings, generator)
    for axis, wanted in ((-1, settings.horizontal_flip), (-2, settings.vertical_flip)):
        if wanted:
            flipped = generator.random(len(images)) < 0.5
            images[flipped] = np.flip(images[flipped], axis)
    if settings.cutout:
        images *= _kept(images, settings.cutout, generator)
    return np.ascontiguousarray(np.moveaxis(images, 1, -1) if last else images)


def _crop(x: NDArray[Any], settings: Augmentations, generator: np.random.Generator) -> NDArray[Any]:
    """Pad rows and columns, and take a window of the old size at a random place, one an example."""
    padding = settings.crop_padding
    widths = [(0, 0)] * (x.ndim - 2) + [(padding, padding)] * 2
    padded = np.pad(x, widths, mode="constant" if settings.crop_fill == "zero" else "reflect")
    windows = sliding_window_view(padded, x.shape[-2:], axis=(-2, -1))
    rows, columns = generator.integers(0, 2 * padding + 1, (2, len(x)))
    examples = np.arange(len(x))
    cropped: NDArray[Any] = (
        windows[examples, rows, columns] if x.ndim == 3 else windows[examples, :, rows, columns]
    )
    return cropped


def _kept(x: NDArray[Any], side: int, generator: np.random.Generator) -> NDArray[Any]:
    """Masks [n, (1,) h, w] in `x`'s type: 0 in a square of this side around a random pixel, else 1."""
    lines = []
    for size in x.shape[-2:]:
        start = generator.integers(0, size, (len(x), 1)) - side // 2
        place = np.arange(size)
        lines.append((place >= start) & (place < start + side))
    square = lines[0][:, :, None] & lines[1][:, None, :]
    return (~square if x.ndim == 3 else ~square[:, None]).astype(x.dtype)


def mix(
    x: NDArray[Any], dense: NDArray[np.float32], alpha: float, generator: np.random.Generator
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Mixup of a batch with itself in another order: inputs and dense targets, one ratio for all.

    uint8 inputs are rounded to the nearest.
    """
    ratio = np.float32(generator.beta(alpha, alpha))
    other = generator.permutation(len(x))
    mixed = ratio * x + (np.float32(1) - ratio) * x[other]
    if np.issubdtype(x.dtype, np.integer):
        np.rint(mixed, out=mixed)
    return mixed.astype(x.dtype, copy=False), ratio * dense + (np.float32(1) - ratio) * dense[other]
