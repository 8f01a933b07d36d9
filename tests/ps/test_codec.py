"""Frames: what is packed parses back, anything else is refused, nothing is allocated by a hostile size."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from chiron.ps.codec import (
    HEADER_BYTES,
    HELLO_BYTES,
    LOWEST_VERSION,
    VERSION,
    ElementType,
    Flag,
    Header,
    Hello,
    Kind,
    Layout,
    common_version,
    parse_header,
)
from chiron.ps.errors import FrameInvalid

LAYOUT = Layout(elements=7, dtype=ElementType.FLOAT32, plan_bytes=50, sums=4)
WITH_VECTOR = {Kind.PUBLISH, Kind.STARTED, Kind.PUSH, Kind.MERGED}


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Any header that is legal by itself."""
    kind = draw(st.sampled_from(Kind))
    legal = {ElementType.NONE}
    if kind in WITH_VECTOR:
        legal = {ElementType.FLOAT32}
    if kind in (Kind.PUSH, Kind.MERGED):
        legal = {ElementType.FLOAT32, ElementType.BFLOAT16}
    return Header(
        kind=kind,
        dtype=draw(st.sampled_from(sorted(legal))),
        elements=draw(st.integers(0, 2**32 - 1)),
        trial=draw(st.integers(0, 2**16 - 1)),
        exchange=draw(st.integers(0, 2**32 - 1)),
        flags=draw(st.sampled_from([Flag.NONE, Flag.SET_ASIDE])),
        excluded=draw(st.integers(0, 2**16 - 1)),
        plan_length=draw(st.integers(0, 2**32 - 1)),
        norm=draw(st.floats(0, 2.0**100, width=32)),
    )


@given(headers())
def test_a_header_parses_back(header: Header) -> None:
    packed = header.pack()
    assert len(packed) == HEADER_BYTES == 32
    assert parse_header(packed) == header


def test_a_header_is_these_bytes() -> None:
    header = Header(Kind.PUSH, ElementType.FLOAT32, 7, trial=1, exchange=258, norm=1.0)
    assert header.pack().hex() == "43485053010701000100000002010000000000000000803f0700000000000000"


@given(st.binary(min_size=0, max_size=100))
def test_bytes_that_are_no_header_are_refused(data: bytes) -> None:
    try:
        header = parse_header(data)
    except FrameInvalid:
        return
    assert header.pack() == data


@given(headers(), st.integers(0, HEADER_BYTES * 8 - 1))
def test_a_flipped_bit_is_refused_or_changes_the_header(header: Header, bit: int) -> None:
    damaged = bytearray(header.pack())
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        parsed = parse_header(damaged)
    except FrameInvalid:
        return
    assert parsed != header


@pytest.mark.parametrize("norm", [float("nan"), float("inf"), -1.0])
def test_a_norm_that_is_none_is_refused(norm: float) -> None:
    with pytest.raises(FrameInvalid):
        parse_header(Header(Kind.PUSH, ElementType.FLOAT32, 7, norm=norm).pack())


@given(arrays.arrays(np.float64, 4))
def test_sums_travel_bit_for_bit(sums: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    head = LAYOUT.pack_head(LAYOUT.header(Kind.PUSH), sums)
    assert len(head) == LAYOUT.head_bytes
    header, parsed = LAYOUT.parse_head(head, Kind.PUSH)
    assert header == LAYOUT.header(Kind.PUSH)
    assert parsed.tobytes() == sums.tobytes()


@given(st.binary(max_size=50))
def test_a_plan_travels_padded_to_the_same_size(plan: bytes) -> None:
    head = LAYOUT.pack_plan(LAYOUT.header(Kind.PUBLISH, plan_length=len(plan)), plan)
    assert len(head) == LAYOUT.plan_head_bytes
    assert LAYOUT.parse_plan(head, Kind.PUBLISH)[1] == plan


def test_a_plan_longer_than_its_padding_is_refused_on_both_sides() -> None:
    header = LAYOUT.header(Kind.PUBLISH, plan_length=51)
    with pytest.raises(FrameInvalid):
        LAYOUT.pack_plan(header, bytes(51))
    with pytest.raises(FrameInvalid):
        LAYOUT.parse_plan(header.pack() + bytes(50), Kind.PUBLISH)


def test_padding_that_is_not_zero_is_refused() -> None:
    head = bytearray(LAYOUT.pack_plan(LAYOUT.header(Kind.PUBLISH, plan_length=3), b"abc"))
    head[-1] = 1
    with pytest.raises(FrameInvalid):
        LAYOUT.parse_plan(head, Kind.PUBLISH)


@pytest.mark.parametrize(
    "header",
    [
        LAYOUT.header(Kind.MERGED),
        Header(Kind.PUSH, ElementType.FLOAT32, 8),
        Header(Kind.PUSH, ElementType.BFLOAT16, 7),
    ],
    ids=["another kind", "another length", "another element type"],
)
def test_a_frame_of_another_layout_is_refused(header: Header) -> None:
    with pytest.raises(FrameInvalid):
        LAYOUT.expect(header.pack(), Kind.PUSH)


@given(st.integers(1, 255), st.integers(1, 255), st.binary(min_size=32, max_size=32), st.integers(-1, 65534))
def test_a_hello_parses_back_and_agrees_on_a_version_both_speak(
    low: int, high: int, digest: bytes, trial: int
) -> None:
    packed = Hello(low, high, digest, trial, merged=trial + 7).pack()
    assert len(packed) == HELLO_BYTES
    if low > high:
        with pytest.raises(FrameInvalid):
            Hello.parse(packed)
        return
    hello = Hello.parse(packed)
    assert hello == Hello(low, high, digest, trial, trial + 7)
    if low > VERSION or high < LOWEST_VERSION:
        with pytest.raises(FrameInvalid, match="no protocol version"):
            common_version(hello)
    else:
        assert low <= common_version(hello) <= high
        assert LOWEST_VERSION <= common_version(hello) <= VERSION


def test_frame_sizes_follow_from_the_spec() -> None:
    wide = Layout(10, ElementType.FLOAT32, 100, 64)
    narrow = Layout(10, ElementType.BFLOAT16, 100, 64)
    assert (wide.push_bytes, narrow.push_bytes) == (32 + 512 + 40, 32 + 512 + 20)
    assert wide.publish_bytes == narrow.publish_bytes == 32 + 100 + 40
    assert struct.calcsize("<4sBBBBHHIIfII") == 32
