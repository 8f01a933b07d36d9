"""Which chunks a trainer reads before each exchange, in which order.

The host serves the chunks and sees each request. So the order follows from public facts alone, and a trainer
that does not learn (any more, or at all) reads on as the others do.
"""

from collections.abc import Sequence

from chiron.runtime.datasets import EncryptedDataset
from chiron.runtime.training.seeds import Seeds
from chiron.runtime.training.timetable import Part
from chiron.wire.jobs import JobSpec


def holding_pass(part: Part) -> Sequence[int]:
    """Before a trial's first exchange: all chunks, to keep them, or their validation rows."""
    return part.chunks


def streaming_pass(part: Part, exchange: int) -> Sequence[int]:
    """Before each exchange of a trial, if the data is streamed: all chunks in an order of its own."""
    order = Seeds(part.seed, "reads", part.index).generator(exchange).permutation(len(part.chunks))
    return [part.chunks[place] for place in order]


async def read_unused(
    dataset: EncryptedDataset, spec: JobSpec, index: int, exchange: int, *, first: bool
) -> None:
    """Read what a learner would before this exchange of a trial, and use none of it.

    Args:
        first: whether this trainer has read nothing in this trial yet. One that takes a crashed one's place
            begins at a later exchange.

    Raises:
        DatasetError: a chunk is not what the owner made.
    """
    part = Part.of(spec, index)
    passes = [holding_pass(part)] if first else []
    if part.streamed:
        passes.append(streaming_pass(part, exchange))
    for numbers in passes:
        async for _ in dataset.read(numbers):
            pass
