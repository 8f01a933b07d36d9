"""Looking for secrets where a crash could have left them."""

import base64
from pathlib import Path

_LEFT_OUT = ("tee", "image", "owner")
PIECE_BYTES = 48
"""Of the model's end, where its weights are: what is looked for."""


def expect_no_secret_in_the_clear(directory: Path, key: bytes, model: bytes = b"") -> None:
    """Neither the dataset's key nor the model's weights lie in any file below `directory`.

    That is objects, logs and database. Left out are the development TEE's keys, which stand for the
    processor's, the image, and what the owner keeps.
    """
    needles = [key, base64.b64encode(key), key.hex().encode()]
    # From the middle: weights, not what all models have in common.
    middle = len(model) // 2
    needles += [model[middle : middle + PIECE_BYTES]] if model else []
    searched = 0
    for path in directory.rglob("*"):
        if path.is_file() and path.relative_to(directory).parts[0] not in _LEFT_OUT:
            content = path.read_bytes()
            assert not any(needle in content for needle in needles), path
            searched += 1
    assert searched
