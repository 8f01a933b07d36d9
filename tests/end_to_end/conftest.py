"""One service for all end-to-end tests of a process: starting one takes a while."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from chiron import Client
from chiron.client.datasets import Encrypted
from tests.end_to_end.service import Service, encrypted_digits, publish_linear, serving


@pytest.fixture(scope="session")
def service(image: Path) -> Iterator[Service]:
    """`chiron serve`, with a state directory of its own and the image that all tests share."""
    # Not pytest's directory: its paths are too long for Unix sockets.
    with (
        TemporaryDirectory(prefix="chiron-test-") as directory,
        serving(Path(directory, "state"), Path(directory, "home"), "--image", str(image)) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def owner(service: Service) -> Iterator[Client]:
    """The data owner's client."""
    with service.owner() as client:
        yield client


@pytest.fixture(scope="session")
def digits(service: Service, owner: Client) -> Encrypted:
    """The digits, encrypted and uploaded."""
    return encrypted_digits(owner, service.home / "digits.enc")


@pytest.fixture(scope="session")
def linear(service: Service, digits: Encrypted) -> str:
    """SHA-256 of a published builder that answers a linear classifier and compiles in no time."""
    with service.operator() as operator:
        return publish_linear(operator, digits)
