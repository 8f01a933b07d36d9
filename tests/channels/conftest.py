"""A real parameter-server door on loopback, with evidence from a real quoting service."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.enrolment_door import Door, open_door
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
