"""What all tests of the client share: a gateway, and enclaves that are scripts."""

from tests.support.owners_world import software_tee, world

__all__ = ["software_tee", "world"]
