"""The C library's heap, set for a process through which frames pass in pieces.

With glibc's defaults the memory of the pieces (256 KiB in each of TLS, HTTP and the socket) goes back to the
system when they are freed and is asked for again, page by page, for the next ones: 6 to 9 % of a server's
processor time (docs/scaling.md). Vectors of over 1 MiB still are mappings of their own. What stays readable
inside the process by that are pieces of frames, whose buffers it keeps anyway.
"""

import ctypes

from chiron.ps.streams import PIECE_BYTES

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_LARGEST_PIECE_BYTES = 4 * PIECE_BYTES
_KEPT_BYTES = 16 * PIECE_BYTES


def keep_freed_pieces() -> bool:
    """Let freed pieces, up to 4 MiB of them, stay with this process. False: the C library has no mallopt."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_PIECE_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
