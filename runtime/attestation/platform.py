"""What an enclave needs of its TEE: a quote over report data, and keys that only it can derive."""

from dataclasses import dataclass
from typing import Protocol

from chiron.wire.attestation import Collateral
from chiron.wire.quoting import SealingPolicy

__all__ = ["Platform", "Quoted", "SealingPolicy"]


@dataclass(frozen=True)
class Quoted:
    """A quote, and the collateral that verifies it."""

    quote: bytes
    collateral: Collateral


class Platform(Protocol):
    """The TEE under an enclave. Only `chiron.runtime.__main__` chooses one."""

    def quote(self, report_data: bytes) -> Quoted:
        """Quote 64 bytes of report data.

        Raises:
            PlatformUnavailable: there is no TEE, or it did not answer.
        """
        ...

    def sealing_recipe(self) -> bytes:
        """Public facts that today's sealing keys depend on (SGX: patch levels), at most 64 bytes.

        Stored beside what is sealed: after an update, `sealing_key` needs them to derive the same key.

        Raises:
            PlatformUnavailable: as above.
        """
        ...

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> bytes:
        """32 bytes that only this measurement (or signer) on this platform derives for `label`.

        Without a recipe, today's.

        Raises:
            PlatformUnavailable: as above.
        """
        ...
