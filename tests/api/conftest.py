"""A real gateway on loopback and a real Unix socket, with simulated enclaves."""

from tests.support.party import Party, component, launcher, party, settings, settings_in, world

__all__ = ["Party", "component", "launcher", "party", "settings", "settings_in", "world"]
