"""What all fault tests share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.clear import expect_no_secret_in_the_clear
from tests.support.builders import orderly
from tests.support.faulty_host import FaultyHost, faulty_host
from tests.support.mortal import MortalWorld, mortal_world


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for the paths of Unix sockets."""
    with TemporaryDirectory(prefix="chiron-") as made:
        yield Path(made)


@pytest.fixture
async def world(directory: Path) -> AsyncIterator[MortalWorld]:
    """A gateway whose enclaves die at chosen calls."""
    async with mortal_world(directory) as made:
        yield made


@pytest.fixture
async def host(directory: Path) -> AsyncIterator[FaultyHost]:
    """A gateway with an owner, a dataset and an orderly builder."""
    async with faulty_host(directory, orderly(epochs=2)) as made:
        yield made
        # Whatever went wrong: checkpoints hold the dataset's key, and lie there sealed.
        expect_no_secret_in_the_clear(directory, made.dataset.record.key)
