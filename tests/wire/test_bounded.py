"""Bounded reads: everything up to the limit, nothing beyond."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.wire.bounded import read_file, read_stream
from chiron.wire.errors import LimitExceeded


async def stream(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@given(pieces=st.lists(st.binary(max_size=8), max_size=8), limit=st.integers(0, 64))
async def test_a_stream_is_read_whole_or_refused(pieces: list[bytes], limit: int) -> None:
    whole = b"".join(pieces)
    if len(whole) <= limit:
        assert await read_stream(stream(pieces), limit) == whole
    else:
        with pytest.raises(LimitExceeded):
            await read_stream(stream(pieces), limit)


async def test_a_stream_without_end_is_left_at_the_limit() -> None:
    given_away = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given_away
        while True:
            given_away += 1
            yield bytes(100)

    with pytest.raises(LimitExceeded):
        await read_stream(endless(), 1000)
    assert given_away == 11


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_file_within_the_limit_is_read_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    assert read_file(tmp_path / "file", 10) == bytes(size)


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(11))
    with pytest.raises(LimitExceeded):
        read_file(tmp_path / "file", 10)


def test_a_file_without_end_is_left_at_the_limit() -> None:
    with pytest.raises(LimitExceeded):
        read_file(Path("/dev/zero"), 10)
