"""The platform where none is configured: it refuses everything."""

from typing import NoReturn

from chiron.runtime.attestation.errors import PlatformUnavailable
from chiron.wire.quoting import SealingPolicy


class RefusingPlatform:
    """Fails closed."""

    def quote(self, report_data: bytes) -> NoReturn:
        """Refuse."""
        raise PlatformUnavailable("no TEE is configured: nothing is quoted")

    def sealing_recipe(self) -> NoReturn:
        """Refuse."""
        raise PlatformUnavailable("no TEE is configured: nothing is sealed")

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> NoReturn:
        """Refuse."""
        raise PlatformUnavailable("no TEE is configured: no sealing key is derived")
