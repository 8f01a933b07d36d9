"""A worker process's own ends of its pipes."""

import io
import os

from chiron.wasm_sandbox.codec import Frame, encode_head

INPUT, OUTPUT = 0, 1
_PART = 1 << 20


def read_exactly(count: int) -> bytearray:
    """Bytes from the one who started this process; ends the process where there are no more."""
    # `read`, not `readv`: a confined process has only that.
    source = io.FileIO(INPUT, closefd=False)
    content = bytearray(count)
    view = memoryview(content)
    while view:
        taken = source.readinto(view[:_PART])
        if not taken:
            # Not `sys.exit`: the interpreter's own end would make system calls that are gone.
            os._exit(1)
        view = view[taken:]
    return content


def write_frame(frame: Frame, *large: memoryview, output: int = OUTPUT) -> None:
    """Write a frame, whose last parts may be views of larger memory."""
    parts = (*frame.parts, *large)
    for part in (encode_head(frame.kind, [len(part) for part in parts]), *parts):
        view = memoryview(part)
        while view:
            view = view[os.write(output, view[:_PART]) :]
