"""The frames that a worker process and the one who started it exchange over one pipe pair.

    frame = "CHSB" | kind: u8 | parts: u8 | MAX_PARTS × length: u64 little-endian | the parts

The head has one size, and is checked against the bounds of its kind before any part is read, so that
a worker which hostile code has taken over cannot make its reader allocate more than the bounds say. There are
two sorts of workers, with kinds of their own: the sandbox's (`Kind`) and the training engine's
(`chiron.runtime.engine.frames`).
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from chiron.wasm_sandbox.errors import FrameMalformed

MAGIC = b"CHSB"
MAX_PARTS = 4
_HEAD = struct.Struct(f"<4sBB{MAX_PARTS}Q")
HEAD_BYTES = _HEAD.size


Buffer = bytes | bytearray


class Kind(IntEnum):
    """What a frame of the sandbox is; the bounds of its parts depend on it."""

    COMPILE = 1
    """Parts: the command (JSON), component."""
    RUN = 2
    """Parts: the command (JSON), compiled module, statistics, sample."""
    COMPILED = 16
    """Parts: report (JSON), compiled module."""
    ANSWERED = 17
    """Parts: report (JSON), graph, recipe."""
    FAILED = 18
    """Parts: failure (JSON)."""


@dataclass(frozen=True)
class Frame:
    """One message."""

    kind: IntEnum
    parts: tuple[Buffer, ...]


Bounds = Mapping[IntEnum, tuple[int, ...]]
"""The most bytes of each part, for each acceptable kind; the number of parts is exact."""


def encode_head(kind: IntEnum, lengths: Sequence[int]) -> bytes:
    """The head of a frame whose parts have these lengths."""
    padded = [*lengths, *[0] * (MAX_PARTS - len(lengths))]
    return _HEAD.pack(MAGIC, kind, len(lengths), *padded)


def encode(frame: Frame) -> bytes:
    """The whole frame."""
    return b"".join((encode_head(frame.kind, [len(part) for part in frame.parts]), *frame.parts))


def decode_head(head: Buffer, bounds: Bounds) -> tuple[IntEnum, tuple[int, ...]]:
    """Kind and part lengths of `HEAD_BYTES` bytes; raises `FrameMalformed` on anything out of bounds."""
    if len(head) != HEAD_BYTES:
        raise FrameMalformed("short head")
    magic, number, count, *lengths = _HEAD.unpack(head)
    if magic != MAGIC:
        raise FrameMalformed("no frame begins here")
    kind = next((kind for kind in bounds if kind == number), None)
    if kind is None:
        raise FrameMalformed("a frame of this kind is not expected")
    limits = bounds[kind]
    if count != len(limits) or any(lengths[count:]):
        raise FrameMalformed("wrong number of parts")
    if any(length > limit for length, limit in zip(lengths, limits, strict=False)):
        raise FrameMalformed("a part is longer than its bound")
    return kind, tuple(lengths[:count])


def read_frame(read_exactly: Callable[[int], Buffer], bounds: Bounds) -> Frame:
    """Read one frame; `read_exactly` raises on a short stream. Raises `FrameMalformed`."""
    kind, lengths = decode_head(read_exactly(HEAD_BYTES), bounds)
    return Frame(kind, tuple(read_exactly(length) for length in lengths))
