"""The TEE under an enclave: quotes and sealing keys, the refusing default, and evidence made with it."""

from dataclasses import dataclass
from typing import NoReturn, Protocol

from chiron.runtime.errors import PlatformUnavailable
from chiron.wire.attestation import Claims, Collateral, Evidence
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
            PlatformUnavailable: there is no TEE, or it did not answer.
        """
        ...

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> bytes:
        """32 bytes that only this measurement (or signer) on this platform derives for `label`.

        Without a recipe it is today's key.

        Raises:
            PlatformUnavailable: there is no TEE, it did not answer, or the recipe is another kind of TEE's.
        """
        ...


BOOT_NONCE = bytes(32)
"""The nonce of evidence that no verifier asked for: peers check it for identity, never for freshness."""


def attest(platform: Platform, claims: Claims) -> Evidence:
    """Evidence that an enclave on `platform` makes these claims.

    Raises:
        PlatformUnavailable: the platform gave no quote.
    """
    quoted = platform.quote(claims.report_data())
    return Evidence(quote=quoted.quote, collateral=quoted.collateral, claims=claims)


class RefusingPlatform:
    """The platform where none is configured: it refuses everything."""

    def quote(self, report_data: bytes) -> NoReturn:
        """Refuse."""
        raise PlatformUnavailable("no TEE is configured: nothing is quoted")

    def sealing_recipe(self) -> NoReturn:
        """Refuse."""
        raise PlatformUnavailable("no TEE is configured: nothing is sealed")

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> NoReturn:
        """Refuse."""
        raise PlatformUnavailable("no TEE is configured: no sealing key is derived")
