"""What every source of training data offers: a description, and its examples in batches."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chiron.client.columns import Column
from chiron.runtime.datasets import ChunkForm, Examples
from chiron.wire.contract import InputType, Task


@dataclass(frozen=True)
class Description:
    """A source's form, known before its examples are read for encryption."""

    task: Task
    input_shape: tuple[int, ...]
    """One example's, without the batch dimension; images are [channels, height, width]."""
    input_dtype: InputType
    examples: int
    target_shape: tuple[int, ...] = ()
    class_names: tuple[str, ...] = field(default=())
    """Classification: the name of each class, in the order of the indices."""
    columns: tuple[Column, ...] = field(default=())
    """Tables with categories or filled values: how each input column is encoded."""

    def chunk_form(self, rows: int) -> ChunkForm:
        """The form of chunks of `rows` examples."""
        classes = len(self.class_names)
        return ChunkForm(self.task, self.input_shape, self.input_dtype, self.target_shape, classes, rows)

    @property
    def example_bytes(self) -> int:
        """Plaintext bytes of one example."""
        layout = self.chunk_form(1).layout()
        return sum(entry.size for entry in layout.forms.values())


class Source(Protocol):
    """Training data. Reading never holds more than a few batches."""

    @property
    def description(self) -> Description:
        """The source's form."""
        ...

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        """The examples numbered `rows`, once each, in batches of `size` (the last may be smaller).

        In the order of `rows` where the source can be read anywhere. One that can only be read from front
        to back mixes its rows within a window of a few batches.

        Raises:
            SourceInvalid: an example cannot be read, or is not of the described form.
        """
        ...
