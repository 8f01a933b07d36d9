"""Making evidence: a quote over claims."""

from chiron.runtime.attestation.platform import Platform
from chiron.wire.attestation import Claims, Evidence

BOOT_NONCE = bytes(32)
"""Evidence that no verifier asked for yet: peers check it for identity, never for freshness."""


def attest(platform: Platform, claims: Claims) -> Evidence:
    """Evidence that an enclave on `platform` makes these claims.

    Raises:
        PlatformUnavailable: the platform gave no quote.
    """
    quoted = platform.quote(claims.report_data())
    return Evidence(quote=quoted.quote, collateral=quoted.collateral, claims=claims)
