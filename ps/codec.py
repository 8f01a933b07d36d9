"""Frames of the exchange, and where they are sent: each of a size that follows from the public spec alone.

A frame is a 32-byte header, then the parts of its kind, all little-endian, nothing optional:

    HELLO      lowest and highest version (2 bytes), 6 zero bytes, spec digest (32 bytes)
    WELCOME    nothing
    PUBLISH    plan (padded with zeros), vector float32
    PUBLISHED  nothing
    START      nothing
    STARTED    plan (padded with zeros), vector float32
    PUSH       sums float64, change float32 or bfloat16
    MERGED     sums float64, vector float32 or step bfloat16
    SLOT       nothing
    AGREED     nothing

Who a frame comes from is not in it: that is the TLS client certificate's business. The header's fields:

    magic 4s | version u8 | kind u8 | dtype u8 | flags u8 | trial u16 | excluded u16 | exchange u32 |
    plan length u32 | norm f32 | elements u32 | zero u32
"""

import math
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chiron.ps.errors import FrameInvalid
from chiron.wire.exchange import ExchangeSpec

MAGIC = b"CHPS"
LOWEST_VERSION = 1
VERSION = 1
"""Highest version of the protocol spoken here."""
_HEADER = struct.Struct("<4sBBBBHHIIfII")
HEADER_BYTES = _HEADER.size
_HELLO = struct.Struct("<BB6s32s")
HELLO_BYTES = HEADER_BYTES + _HELLO.size


Buffer: TypeAlias = bytes | bytearray | memoryview


class Kind(IntEnum):
    """What a frame is for."""

    HELLO = 1
    WELCOME = 2
    PUBLISH = 3
    PUBLISHED = 4
    START = 5
    STARTED = 6
    PUSH = 7
    MERGED = 8
    SLOT = 9
    AGREED = 10


class ElementType(IntEnum):
    """Element type of the frame's vector."""

    NONE = 0
    FLOAT32 = 1
    BFLOAT16 = 2


class Flag(IntFlag):
    """Whether a change is set aside. PUSH: by its sender, who sends zeros. MERGED: the receiver's was."""

    NONE = 0
    SET_ASIDE = 1


_TYPES_OF_KIND = {
    Kind.PUBLISH: {ElementType.FLOAT32},
    Kind.STARTED: {ElementType.FLOAT32},
    Kind.PUSH: {ElementType.FLOAT32, ElementType.BFLOAT16},
    Kind.MERGED: {ElementType.FLOAT32, ElementType.BFLOAT16},
}


@dataclass(frozen=True)
class Header:
    """The fixed part of every frame."""

    kind: Kind
    dtype: ElementType = ElementType.NONE
    elements: int = 0
    trial: int = 0
    exchange: int = 0
    """PUSH: the exchange asked for. MERGED: the last one merged. STARTED: the next one due. HELLO: how many
    the client has seen merged, and in `trial` one more than the trial it is in. SLOT, AGREED: a rung of the
    ladder of slots (`chiron.runtime.pacing`)."""
    flags: Flag = Flag.NONE
    excluded: int = 0
    """MERGED: how many trainers' changes were set aside in this exchange. AGREED: 1: it was raised."""
    plan_length: int = 0
    """Bytes of the plan before its padding."""
    norm: float = 0.0
    """PUSH: Euclidean norm of the whole change, over all shards."""
    version: int = VERSION

    def pack(self) -> bytes:
        """The 32 bytes of this header."""
        return _HEADER.pack(
            MAGIC,
            self.version,
            self.kind,
            self.dtype,
            self.flags,
            self.trial,
            self.excluded,
            self.exchange,
            self.plan_length,
            self.norm,
            self.elements,
            0,
        )


def parse_header(data: Buffer) -> Header:
    """Parse a header, which is exactly 32 bytes.

    Raises:
        FrameInvalid: a field is not one that any version or kind allows.
    """
    if len(data) != HEADER_BYTES:
        raise FrameInvalid("frame-truncated", "a header is 32 bytes")
    (
        magic, version, kind, dtype, flags, trial, excluded, exchange, plan_length, norm, elements, zero,
    ) = _HEADER.unpack(data)  # fmt: skip
    if magic != MAGIC or zero != 0 or flags & ~Flag.SET_ASIDE:
        raise FrameInvalid("frame-malformed", "not a frame of the exchange")
    if not LOWEST_VERSION <= version <= VERSION:
        raise FrameInvalid("frame-version", "the frame is of another protocol version")
    if not 0.0 <= norm < math.inf or math.copysign(1.0, norm) < 0:
        raise FrameInvalid("frame-malformed", "the norm is not one")
    try:
        known, element_type = Kind(kind), ElementType(dtype)
    except ValueError:
        raise FrameInvalid("frame-malformed", "the frame's kind or element type is unknown") from None
    if element_type not in _TYPES_OF_KIND.get(known, {ElementType.NONE}):
        raise FrameInvalid("frame-malformed", "the frame's kind carries another element type")
    return Header(
        kind=known,
        dtype=element_type,
        elements=elements,
        trial=trial,
        exchange=exchange,
        flags=Flag(flags),
        excluded=excluded,
        plan_length=plan_length,
        norm=norm,
        version=version,
    )


@dataclass(frozen=True)
class Layout:
    """Sizes of all frames of one exchange, in bytes; a function of public facts only."""

    elements: int
    dtype: ElementType
    plan_bytes: int
    sums: int

    @classmethod
    def of(cls, spec: ExchangeSpec, plan_bytes: int, sums: int) -> "Layout":
        """The layout that server and clients of `spec` share."""
        dtype = ElementType.BFLOAT16 if spec.dtype == "bfloat16" else ElementType.FLOAT32
        return cls(spec.parameters, dtype, plan_bytes, sums)

    @property
    def payload_bytes(self) -> int:
        """The vector part of PUSH and MERGED."""
        return self.elements * (2 if self.dtype is ElementType.BFLOAT16 else 4)

    @property
    def head_bytes(self) -> int:
        """What precedes the vector in PUSH and MERGED: header and sums."""
        return HEADER_BYTES + 8 * self.sums

    @property
    def push_bytes(self) -> int:
        """A whole PUSH or MERGED frame."""
        return self.head_bytes + self.payload_bytes

    @property
    def plan_head_bytes(self) -> int:
        """What precedes the vector in PUBLISH and STARTED: header and padded plan."""
        return HEADER_BYTES + self.plan_bytes

    @property
    def publish_bytes(self) -> int:
        """A whole PUBLISH or STARTED frame."""
        return self.plan_head_bytes + 4 * self.elements

    def header(self, kind: Kind, **fields: int | float | Flag) -> Header:
        """A header of `kind` with this layout's element type and count."""
        if kind in (Kind.PUBLISH, Kind.STARTED):
            return Header(kind, ElementType.FLOAT32, self.elements, **fields)  # type: ignore[arg-type]
        if kind in (Kind.PUSH, Kind.MERGED):
            return Header(kind, self.dtype, self.elements, **fields)  # type: ignore[arg-type]
        return Header(kind, **fields)  # type: ignore[arg-type]

    def expect(self, data: Buffer, kind: Kind) -> Header:
        """Parse a header and demand that it is of `kind` and of this layout.

        Raises:
            FrameInvalid: it is not.
        """
        header = parse_header(data)
        model = self.header(kind)
        if (header.kind, header.dtype, header.elements) != (kind, model.dtype, model.elements):
            raise FrameInvalid("frame-unexpected", f"expected a {kind.name} frame of this exchange")
        if header.plan_length > self.plan_bytes:
            raise FrameInvalid("frame-malformed", "the plan is longer than its padding")
        return header

    def pack_head(self, header: Header, sums: NDArray[np.float64]) -> bytes:
        """What precedes the vector of PUSH and MERGED; `sums` is float64 [self.sums]."""
        if sums.shape != (self.sums,):
            raise FrameInvalid("sums-shape", f"sums must be a vector of {self.sums}")
        return header.pack() + sums.astype("<f8", copy=False).tobytes()

    def parse_head(self, data: Buffer, kind: Kind) -> tuple[Header, NDArray[np.float64]]:
        """The header, of `kind`, and the sums that `pack_head` packed."""
        if len(data) != self.head_bytes:
            raise FrameInvalid("frame-truncated", "the frame's head has another length")
        view = memoryview(data)
        sums = np.zeros(self.sums, "<f8")
        sums.view(np.uint8)[:] = view[HEADER_BYTES:]
        return self.expect(view[:HEADER_BYTES], kind), sums.astype(np.float64, copy=False)

    def pack_plan(self, header: Header, plan: bytes) -> bytes:
        """What precedes the vector of PUBLISH and STARTED; `header.plan_length` is len(plan)."""
        if len(plan) > self.plan_bytes or header.plan_length != len(plan):
            raise FrameInvalid("plan-too-large", "the plan does not fit its padding")
        return header.pack() + plan.ljust(self.plan_bytes, b"\0")

    def parse_plan(self, data: Buffer, kind: Kind) -> tuple[Header, bytes]:
        """The header, of `kind`, and the plan without its padding that `pack_plan` packed."""
        if len(data) != self.plan_head_bytes:
            raise FrameInvalid("frame-truncated", "the frame's head has another length")
        view = memoryview(data)
        header = self.expect(view[:HEADER_BYTES], kind)
        end = HEADER_BYTES + header.plan_length
        if any(view[end:]):
            raise FrameInvalid("frame-malformed", "the plan's padding is not zero")
        return header, bytes(view[HEADER_BYTES:end])


@dataclass(frozen=True)
class Hello:
    """What a client opens with: the versions it speaks and the spec it was told."""

    lowest: int
    highest: int
    spec_digest: bytes
    """SHA-256, 32 bytes (`chiron.wire.exchange.spec_digest`)."""
    trial: int = -1
    """The trial that the client is in; -1 before its first."""
    merged: int = 0
    """How many exchanges the client has seen the result of."""

    def pack(self) -> bytes:
        """The whole HELLO frame."""
        body = _HELLO.pack(self.lowest, self.highest, bytes(6), self.spec_digest)
        header = Header(Kind.HELLO, version=LOWEST_VERSION, trial=self.trial + 1, exchange=self.merged)
        return header.pack() + body

    @classmethod
    def parse(cls, data: Buffer) -> "Hello":
        """Parse a HELLO.

        Raises:
            FrameInvalid: `data` is not one.
        """
        if len(data) != HELLO_BYTES:
            raise FrameInvalid("frame-truncated", "a HELLO has another length")
        header = parse_header(memoryview(data)[:HEADER_BYTES])
        if header.kind is not Kind.HELLO:
            raise FrameInvalid("frame-unexpected", "expected a HELLO frame")
        lowest, highest, zeros, digest = _HELLO.unpack(memoryview(data)[HEADER_BYTES:])
        if any(zeros) or not 1 <= lowest <= highest:
            raise FrameInvalid("frame-malformed", "the HELLO's versions are not a range")
        return cls(lowest, highest, digest, header.trial - 1, header.exchange)


def common_version(hello: Hello) -> int:
    """The highest version that both sides speak.

    Raises:
        FrameInvalid: there is none.
    """
    version = min(VERSION, hello.highest)
    if version < max(LOWEST_VERSION, hello.lowest):
        raise FrameInvalid("version-unsupported", "no protocol version in common")
    return version
