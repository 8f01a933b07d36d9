"""Jobs whose traces are compared."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import pytest

from chiron.api.software_tee.tee import SoftwareTee
from tests.support.datasets import Arrays
from tests.traffic.world import View, host_in

Run: TypeAlias = Callable[..., View]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs one job in a world of its own and returns what the host saw of it."""
    # Not pytest's directory: its paths are too long for Unix sockets.
    with TemporaryDirectory(prefix="chiron-") as directory:
        tee = SoftwareTee.open(Path(directory, "tee"), datetime.now(UTC))
        count = 0

        def run_job(data: Arrays, component: bytes, **request: Any) -> View:
            nonlocal count
            count += 1
            own = Path(directory, str(count))
            own.mkdir()

            async def job() -> View:
                async with asyncio.timeout(60), host_in(own, tee) as host:
                    return await host.run(*data, component, **({"trainers": 2, "exchanges": 3} | request))

            return asyncio.run(job())

        yield run_job
