"""The archives, built once a run, and the environments that tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.package.building import Archives, Environment, build_archives


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Wheel and sdist of this source."""
    return build_archives(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """Makes an environment with an archive of ours and these extras; the same one for the same of both."""
    made: dict[tuple[object, ...], Environment] = {}

    def make(archive: Path, *extras: str) -> Environment:
        if (archive, extras) not in made:
            made[archive, extras] = fresh = Environment(tmp_path_factory.mktemp("environment"))
            fresh.install(archive, *extras)
        return made[archive, extras]

    return make
