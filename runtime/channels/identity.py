"""What an enclave knows of itself, and therefore demands of its peers: its own measurement."""

from collections.abc import Callable
from datetime import UTC, datetime

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from chiron.wire.attestation import AttestationPolicy, Collateral, Evidence
from chiron.wire.launch import SgxPlatformSpec, SoftwarePlatformSpec


def own_measurement(own: Evidence) -> str:
    """MRENCLAVE in hex, from a quote that our own platform made over our own claims."""
    report = dcap_qvl.parse_quote(own.quote).report
    return bytes(report.mr_enclave).hex()


def like_ourselves(own: Evidence, platform: SoftwarePlatformSpec | SgxPlatformSpec) -> AttestationPolicy:
    """A policy that accepts only our own measurement, under the root that our own platform stands on.

    This is what a trainer checks the parameter server by before it has the owner's policy. It guards no
    secret (the trainer holds none yet); it keeps a host from wasting work with an impostor.
    """
    root = _software_root(own.collateral) if platform.kind == "software" else None
    return AttestationPolicy(software_root=root, measurements=frozenset({own_measurement(own)}))


def narrowed(owner: AttestationPolicy, own: Evidence) -> AttestationPolicy:
    """The owner's policy, narrowed to our own measurement: what every peer of a job must satisfy."""
    return owner.model_copy(
        update={"measurements": frozenset({own_measurement(own)}), "signers": frozenset()}
    )


def clock_from(issued_at: int) -> Callable[[], datetime]:
    """A clock for verifying in the owner's name: the host's, but never before the owner's grant was given."""
    floor = datetime.fromtimestamp(issued_at, UTC)
    return lambda: max(floor, datetime.now(UTC))


def _software_root(collateral: Collateral) -> bytes:
    chain = x509.load_pem_x509_certificates(collateral.tcb_info_issuer_chain.encode())
    return chain[-1].public_bytes(Encoding.DER)
