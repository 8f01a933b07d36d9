"""Packing a v3 ECDSA quote (Intel SGX ECDSA QuoteLibReference, appendix A) and its signatures."""

import hashlib
import secrets
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from chiron.api.software_tee.pki import CPU_SVN, PCE_SVN, Authority

INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_MRSIGNER = hashlib.sha256(b"chiron software tee quoting enclave").digest()
QE_PRODUCT_ID = 1
QE_SVN = 8
_ATTRIBUTES_INITIALISED_64BIT = 0x05
_ATTRIBUTE_DEBUG = 0x02
_XFRM = 0xE7


@dataclass(frozen=True)
class EnclaveIdentity:
    """What the development TEE vouches for: measured by the launcher, never told by the enclave."""

    measurement: bytes
    """MRENCLAVE, 32 bytes."""
    signer: bytes = bytes(32)
    """MRSIGNER, 32 bytes."""
    product_id: int = 0
    svn: int = 0
    debug: bool = False


def raw_signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA P-256 with SHA-256 as r ‖ s, 64 bytes big-endian."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw_public_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """x ‖ y, 64 bytes."""
    encoded = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return encoded[1:]


def pack_report(identity: EnclaveIdentity, report_data: bytes) -> bytes:
    """sgx_report_body_t: 384 bytes."""
    flags = _ATTRIBUTES_INITIALISED_64BIT | (_ATTRIBUTE_DEBUG if identity.debug else 0)
    return struct.pack(
        "<16sI28sQQ32s32s32s96sHH60s64s",
        CPU_SVN,
        0,
        b"",
        flags,
        _XFRM,
        identity.measurement,
        b"",
        identity.signer,
        b"",
        identity.product_id,
        identity.svn,
        b"",
        report_data,
    )


def sign_quote(
    report: bytes, attestation_key: ec.EllipticCurvePrivateKey, pck: Authority, pck_chain_pem: bytes
) -> bytes:
    """A complete quote over `report`, with the PCK chain inside (certification data type 5)."""
    header = struct.pack("<HHIHH16s20s", 3, 2, 0, QE_SVN, PCE_SVN, INTEL_QE_VENDOR, b"")
    public_key = raw_public_key(attestation_key.public_key())
    auth_data = secrets.token_bytes(32)
    binding = hashlib.sha256(public_key + auth_data).digest()
    quoting_enclave = EnclaveIdentity(
        measurement=hashlib.sha256(b"chiron software quoting enclave code").digest(),
        signer=QE_MRSIGNER,
        product_id=QE_PRODUCT_ID,
        svn=QE_SVN,
    )
    qe_report = pack_report(quoting_enclave, binding.ljust(64, b"\0"))
    signature_data = b"".join(
        (
            raw_signature(attestation_key, header + report),
            public_key,
            qe_report,
            raw_signature(pck.key, qe_report),
            struct.pack("<H", len(auth_data)),
            auth_data,
            struct.pack("<HI", 5, len(pck_chain_pem)),
            pck_chain_pem,
        )
    )
    return header + report + struct.pack("<I", len(signature_data)) + signature_data
