"""The gateway with simulated enclaves that tests of its doors attack."""

from tests.support.party import component, launcher, settings, world

__all__ = ["component", "launcher", "settings", "world"]
