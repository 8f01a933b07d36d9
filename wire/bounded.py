"""Reading what others wrote, up to a limit: nobody's file or answer decides how much memory it takes."""

from collections.abc import AsyncIterable
from pathlib import Path

from chiron.wire.errors import LimitExceeded


async def read_stream(pieces: AsyncIterable[bytes], limit: int) -> bytes:
    """All of `pieces`, as of an HTTP body (`response.content.iter_any()`).

    Raises:
        LimitExceeded: they are more than `limit` bytes; no piece after that is asked for.
    """
    content = bytearray()
    async for piece in pieces:
        if len(content) + len(piece) > limit:
            raise LimitExceeded(limit)
        content += piece
    return bytes(content)


def read_file(path: Path, limit: int) -> bytes:
    """The content of the file at `path`.

    Raises:
        LimitExceeded: it is more than `limit` bytes; no more than one beyond them is read.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise LimitExceeded(limit)
    return content
