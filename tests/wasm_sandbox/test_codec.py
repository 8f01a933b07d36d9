"""Frames: what is written is read, and nothing else is; no length is believed before it is checked."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.wasm_sandbox.codec import (
    HEAD_BYTES,
    MAX_PARTS,
    Bounds,
    Frame,
    Kind,
    decode_head,
    encode,
    encode_head,
    read_frame,
)
from chiron.wasm_sandbox.errors import FrameMalformed

BOUNDS: Bounds = {Kind.ANSWERED: (64, 1000, 1000), Kind.FAILED: (64,)}
FRAMES = st.one_of(
    st.builds(
        Frame,
        st.just(Kind.ANSWERED),
        st.tuples(st.binary(max_size=64), st.binary(max_size=1000), st.binary(max_size=1000)),
    ),
    st.builds(Frame, st.just(Kind.FAILED), st.tuples(st.binary(max_size=64))),
)


class Stream(io.BytesIO):
    """Remembers the largest read that was asked of it."""

    largest = 0

    def exactly(self, count: int) -> bytes:
        self.largest = max(self.largest, count)
        content = self.read(count)
        if len(content) != count:
            raise EOFError
        return content


@given(FRAMES)
def test_a_frame_comes_back(frame: Frame) -> None:
    stream = Stream(encode(frame))
    assert read_frame(stream.exactly, BOUNDS) == frame
    assert stream.read() == b""


@given(st.binary(max_size=3 * HEAD_BYTES))
def test_bytes_that_are_no_frame_are_refused_within_the_bounds(content: bytes) -> None:
    stream = Stream(content)
    with pytest.raises((FrameMalformed, EOFError)):
        read_frame(stream.exactly, BOUNDS)
    assert stream.largest <= 1000


@given(FRAMES, st.integers(0, HEAD_BYTES - 1), st.integers(1, 255))
def test_a_head_with_one_byte_changed_is_refused_or_within_the_bounds(
    frame: Frame, place: int, change: int
) -> None:
    head = bytearray(encode_head(frame.kind, [len(part) for part in frame.parts]))
    head[place] ^= change
    try:
        kind, lengths = decode_head(head, BOUNDS)
    except FrameMalformed:
        return
    assert len(lengths) == len(BOUNDS[kind])
    assert all(length <= limit for length, limit in zip(lengths, BOUNDS[kind], strict=True))


@pytest.mark.parametrize(
    ("kind", "lengths", "reason"),
    [
        (Kind.COMPILED, [1, 1], "not expected"),
        (Kind.FAILED, [65], "longer than its bound"),
        (Kind.FAILED, [2**64 - 1], "longer than its bound"),
        (Kind.FAILED, [], "wrong number"),
        (Kind.FAILED, [1, 1], "wrong number"),
        (Kind.ANSWERED, [1, 1], "wrong number"),
    ],
)
def test_a_head_out_of_bounds_says_why(kind: Kind, lengths: list[int], reason: str) -> None:
    with pytest.raises(FrameMalformed, match=reason):
        decode_head(encode_head(kind, lengths), BOUNDS)


def test_a_head_tells_no_more_lengths_than_parts() -> None:
    head = bytearray(encode_head(Kind.FAILED, [1] * MAX_PARTS))
    head[5] = 1
    with pytest.raises(FrameMalformed, match="wrong number"):
        decode_head(head, BOUNDS)


def test_a_head_has_one_size() -> None:
    head = encode_head(Kind.FAILED, [1])
    for length in (0, HEAD_BYTES - 1, HEAD_BYTES + 1):
        with pytest.raises(FrameMalformed, match="short head"):
            decode_head((head + b"\0")[:length], BOUNDS)
