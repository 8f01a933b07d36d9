"""Taking a v3 ECDSA quote apart, strictly: every length must fit, and no byte may be left over.

Intel SGX ECDSA QuoteLibReference, appendix A. Nothing here is verified; it only says what the bytes claim.
"""

import struct
from dataclasses import dataclass
from typing import Self

from chiron.runtime.errors import QuoteMalformed

HEADER_BYTES = 48
REPORT_BYTES = 384
SIGNED_BYTES = HEADER_BYTES + REPORT_BYTES
_PCK_CHAIN = 5
"""Certification data type: the PCK certificate chain in PEM. All that today's quoting enclaves write."""
_HEADER = struct.Struct("<HHIHH16s20s")
_REPORT = struct.Struct("<16sI28s16s32s32s32s96sHH60s64s")
_FIXED_SIGNATURE = struct.Struct("<64s64s384s64sH")


@dataclass(frozen=True)
class Header:
    """What a quote says it is."""

    version: int
    key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    vendor: bytes
    user_data: bytes

    @classmethod
    def parse(cls, quote: bytes) -> Self:
        """The first 48 bytes of any DCAP quote.

        Raises:
            QuoteMalformed: it is shorter than a header, or of a version that nobody defined.
        """
        if len(quote) < HEADER_BYTES:
            raise QuoteMalformed(f"{len(quote)} bytes are no quote")
        header = cls(*_HEADER.unpack_from(quote))
        if header.version not in (3, 4, 5):
            raise QuoteMalformed(f"unknown quote version {header.version}")
        return header


@dataclass(frozen=True)
class Report:
    """sgx_report_body_t: what the processor says of an enclave."""

    raw: bytes
    cpu_svn: bytes
    misc_select: int
    attributes: bytes
    """Flags (8 bytes) and XFRM (8 bytes), little-endian."""
    measurement: bytes
    signer: bytes
    product_id: int
    svn: int
    report_data: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """The report in exactly 384 bytes."""
        cpu, misc, _, attributes, measurement, _, signer, _, product, svn, _, data = _REPORT.unpack(raw)
        return cls(raw, cpu, misc, attributes, measurement, signer, product, svn, data)

    @property
    def flags(self) -> int:
        """ATTRIBUTES.FLAGS (`chiron.runtime.attestation.attributes.Flag`)."""
        return int.from_bytes(self.attributes[:8], "little")

    @property
    def xfrm(self) -> int:
        """ATTRIBUTES.XFRM: which parts of a processor's state the enclave uses."""
        return int.from_bytes(self.attributes[8:], "little")


@dataclass(frozen=True)
class SgxQuote:
    """Every part of a v3 quote."""

    header: Header
    report: Report
    signed: bytes
    """Header and report: what the attestation key signs."""
    signature: bytes
    attestation_key: bytes
    qe_report: Report
    qe_signature: bytes
    qe_auth_data: bytes
    pck_chain: bytes
    """PEM, leaf first."""

    @classmethod
    def parse(cls, quote: bytes) -> Self:
        """Take a v3 quote apart.

        Raises:
            QuoteMalformed: a length does not fit, bytes are left over, or there is no PCK chain.
        """
        body = _prefixed(quote, SIGNED_BYTES, 4)
        if SIGNED_BYTES + 4 + len(body) != len(quote):
            raise QuoteMalformed("bytes follow the signature data")
        if len(body) < _FIXED_SIGNATURE.size:
            raise QuoteMalformed("the signature data is cut off")
        signature, key, qe_report, qe_signature, _ = _FIXED_SIGNATURE.unpack_from(body)
        auth_data = _prefixed(body, _FIXED_SIGNATURE.size - 2, 2)
        place = _FIXED_SIGNATURE.size + len(auth_data)
        kind = int.from_bytes(body[place : place + 2], "little")
        if kind != _PCK_CHAIN:
            raise QuoteMalformed(f"certification data of type {kind}, not a PCK certificate chain (type 5)")
        chain = _prefixed(body, place + 2, 4)
        if place + 6 + len(chain) != len(body):
            raise QuoteMalformed("bytes follow the certification data")
        return cls(
            header=Header.parse(quote),
            report=Report.parse(quote[HEADER_BYTES:SIGNED_BYTES]),
            signed=quote[:SIGNED_BYTES],
            signature=signature,
            attestation_key=key,
            qe_report=Report.parse(qe_report),
            qe_signature=qe_signature,
            qe_auth_data=auth_data,
            pck_chain=chain,
        )


def _prefixed(raw: bytes, place: int, prefix: int) -> bytes:
    """The bytes at `place` whose length is written before them in `prefix` bytes, little-endian."""
    start = place + prefix
    length = int.from_bytes(raw[place:start], "little")
    if len(raw) < start + length or len(raw) < start:
        raise QuoteMalformed("a length exceeds the quote")
    return raw[start : start + length]
