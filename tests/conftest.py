"""What tests of several areas share: the enclave image, built once a run."""

from pathlib import Path

import pytest

from enclave_image.build import build_image


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Directory of the image of this source. Not to be changed: everybody starts enclaves from it."""
    base = tmp_path_factory.getbasetemp()
    directory = (base if worker_id == "master" else base.parent) / "image"
    build_image(directory)
    return directory
