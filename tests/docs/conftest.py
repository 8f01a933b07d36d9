"""A gateway with enclaves that are scripts, for examples that run."""

from tests.support.owners_world import software_tee, world

__all__ = ["software_tee", "world"]
