"""The doors that tests of the channels knock at."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.server_door import Door, open_door
from tests.support.tee import QuotingServices


@pytest.fixture(scope="session")
def quoting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuotingServices]:
    services = QuotingServices(tmp_path_factory.mktemp("q"))
    yield services
    services.close()


@pytest.fixture
async def door(quoting: QuotingServices) -> AsyncIterator[Door]:
    async with open_door(quoting) as opened:
        yield opened
