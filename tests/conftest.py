"""What tests of several areas share: the enclave image, built once a run."""

from pathlib import Path

import pytest

from chiron.enclave_image.build import build_image

LONG = ("end_to_end", "faults", "builders", "launchers")
"""Folders whose files take long, each for itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: a process that began one last would run alone while the other has nothing left."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Directory of the image of this source. Not to be changed: everybody starts enclaves from it."""
    base = tmp_path_factory.getbasetemp()
    directory = (base if worker_id == "master" else base.parent) / "image"
    build_image(directory)
    return directory
