"""One frame buffer a trainer, and at most one connection at a time that writes into it."""

from dataclasses import dataclass

from chiron.ps.errors import ExchangeRefused
from chiron.ps.merging import Frame, RunningNorm, new_frame
from chiron.ps.streams import Body, as_bytes
from chiron.wire.exchange import ExchangeSpec


@dataclass(frozen=True)
class Change:
    """A trainer's change as received in full."""

    frame: Frame
    norm: float
    """Not finite where any element is not."""


class Uploads:
    """Receives changes. A buffer is made at its trainer's first change and used ever after."""

    def __init__(self, spec: ExchangeSpec) -> None:
        self._shape = spec.parameters
        self._narrow = spec.dtype == "bfloat16"
        self._frames: dict[int, Frame] = {}
        self._writers: dict[int, Body] = {}
        self._versions: dict[int, int] = {}

    def frame(self, trainer: int) -> Frame:
        """The trainer's buffer."""
        if trainer not in self._frames:
            self._frames[trainer] = new_frame(self._shape, narrow=self._narrow)
        return self._frames[trainer]

    async def receive(self, trainer: int, body: Body) -> Change:
        """Read one change into its trainer's buffer.

        A trainer that comes again while an earlier upload of it hangs (a half-open connection) takes over:
        the earlier connection is broken off before a byte of the new one is written.

        Raises:
            FrameInvalid: the body ended early.
            ExchangeRefused: a later connection of the same trainer took over.
        """
        frame = self.take(trainer)
        self._writers[trainer] = body
        try:
            norm = RunningNorm(frame)
            await body.into(as_bytes(frame), norm.advance)
            if self._writers.get(trainer) is not body:
                raise ExchangeRefused("upload-replaced", "the trainer came back on another connection")
        finally:
            if self._writers.get(trainer) is body:
                del self._writers[trainer]
        return Change(frame, norm.value)

    def take(self, trainer: int) -> Frame:
        """The trainer's buffer for new content; whoever still writes into it or sends from it is cut off."""
        if (former := self._writers.pop(trainer, None)) is not None:
            former.abort()
        self._versions[trainer] = self.version(trainer) + 1
        return self.frame(trainer)

    def version(self, trainer: int) -> int:
        """Counts the times that the trainer's buffer was taken for a new change."""
        return self._versions.get(trainer, 0)
