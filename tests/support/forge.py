"""Evidence made part by part, so that each part can be forged: a platform with every secret at hand.

`Platform` holds the keys of one software platform; `Platform.evidence()` is honest evidence; its parameters
and the functions below change one thing each, signed again where a forger could sign.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.api.software_tee import pki
from chiron.api.software_tee.collateral import create_collateral
from chiron.api.software_tee.quote import (
    EnclaveIdentity,
    pack_report,
    raw_public_key,
    raw_signature,
    sign_quote,
)
from chiron.runtime.sealing.hpke import PUBLIC_KEY_BYTES
from chiron.wire.attestation import AttestationPolicy, Claims, Collateral, Evidence, Role
from tests.support.certificates import certificate_for

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOB = "a" * 32
NONCE = b"\x05" * 32
MEASUREMENT = b"\x42" * 32
SIGNER = b"\x17" * 32
IDENTITY = EnclaveIdentity(MEASUREMENT, SIGNER, product_id=3, svn=7)


def claims(**changes: Any) -> Claims:
    honest = {
        "role": Role.PARAMETER_SERVER,
        "job": JOB,
        "hpke_public_key": bytes(PUBLIC_KEY_BYTES),
        "tls_ca_sha256": "c" * 64,
        "nonce": NONCE,
    }
    return Claims.model_validate(honest | changes)


@dataclass
class Platform:
    """One software platform: its authorities, and the attestation key of its quoting enclave."""

    made: datetime = NOW - timedelta(days=1)
    root: pki.Authority = field(init=False)
    platform_ca: pki.Authority = field(init=False)
    tcb_signing: pki.Authority = field(init=False)
    pck: pki.Authority = field(init=False)
    attestation_key: ec.EllipticCurvePrivateKey = field(init=False)

    def __post_init__(self) -> None:
        self.root = pki.create_root(self.made)
        self.platform_ca = pki.create_platform_ca(self.root, self.made)
        self.tcb_signing = pki.create_tcb_signing(self.root, self.made)
        self.pck = pki.create_pck(self.platform_ca, bytes(16), self.made)
        self.attestation_key = ec.generate_private_key(ec.SECP256R1())

    @property
    def pck_chain(self) -> bytes:
        return self.pck.pem + self.platform_ca.pem + self.root.pem

    @cached_property
    def collateral(self) -> Collateral:
        return Collateral.model_validate(
            create_collateral(self.root, self.platform_ca, self.tcb_signing, self.pck_chain, self.made)
        )

    def policy(self, **changes: Any) -> AttestationPolicy:
        honest = {"software_root": self.root.der, "measurements": frozenset({MEASUREMENT.hex()})}
        return AttestationPolicy.model_validate(honest | changes)

    def quote(self, report_data: bytes, identity: EnclaveIdentity = IDENTITY) -> bytes:
        report = pack_report(identity, report_data)
        return sign_quote(report, self.attestation_key, self.pck, self.pck_chain)

    def evidence(self, told: Claims | None = None, identity: EnclaveIdentity = IDENTITY) -> Evidence:
        told = told or claims()
        quote = self.quote(told.report_data(), identity)
        return Evidence(quote=quote, collateral=self.collateral, claims=told)

    def tcb_info(self, **changes: Any) -> dict[str, str]:
        """Collateral fields of a TCB info with these fields changed, signed by the right key."""
        return self._statement("tcb_info", self.tcb_signing, changes)

    def qe_identity(self, **changes: Any) -> dict[str, str]:
        """The same of the QE identity."""
        return self._statement("qe_identity", self.tcb_signing, changes)

    def _statement(self, name: str, signer: pki.Authority, changes: dict[str, Any]) -> dict[str, str]:
        fields = json.loads(getattr(self.collateral, name)) | changes
        raw = json.dumps(
            {key: value for key, value in fields.items() if value is not None}, separators=(",", ":")
        )
        return {name: raw, f"{name}_signature": raw_signature(signer.key, raw.encode()).hex()}

    def signed_by(self, name: str, signer: pki.Authority) -> dict[str, str]:
        """A statement as it is, signed by someone else."""
        return self._statement(name, signer, {})


def platform_levels(*rows: tuple[int, str, str]) -> list[dict[str, Any]]:
    """TCB levels: every component's SVN, date (day) and status."""
    return [
        {
            "tcb": {"sgxtcbcomponents": [{"svn": svn}] * 16, "pcesvn": 0},
            "tcbDate": f"{date}T00:00:00Z",
            "tcbStatus": status,
        }
        for svn, date, status in rows
    ]


def qe_levels(*rows: tuple[int, str, str]) -> list[dict[str, Any]]:
    """QE levels: SVN, date (day) and status."""
    return [
        {"tcb": {"isvsvn": svn}, "tcbDate": f"{date}T00:00:00Z", "tcbStatus": status}
        for svn, date, status in rows
    ]


def with_collateral(evidence: Evidence, **changes: str | None) -> Evidence:
    return evidence.model_copy(update={"collateral": evidence.collateral.model_copy(update=changes)})


def with_quote(evidence: Evidence, quote: bytes) -> Evidence:
    return evidence.model_copy(update={"quote": quote})


def flipped(raw: bytes, place: int, mask: int = 1) -> bytes:
    changed = bytearray(raw)
    changed[place] ^= mask
    return bytes(changed)


def with_pck_chain(platform: Platform, evidence: Evidence, chain: Sequence[bytes]) -> Evidence:
    """The quote's and the collateral's PCK chain replaced by this PEM."""
    pem = b"".join(chain)
    quote = evidence.quote
    place = 436 + 64 + 64 + 384 + 64 + 2 + 32
    certification = struct.pack("<HI", 5, len(pem)) + pem
    body = quote[436:place] + certification
    changed = quote[:432] + struct.pack("<I", len(body)) + body
    return with_collateral(with_quote(evidence, changed), pck_certificate_chain=pem.decode())


def with_qe_report(platform: Platform, evidence: Evidence, report: bytes, signer: pki.Authority) -> Evidence:
    """The quoting enclave's report replaced by this one, signed by `signer`."""
    quote = evidence.quote
    signature = raw_signature(signer.key, report)
    return with_quote(evidence, quote[:564] + report + signature + quote[1012:])


def qe_report(
    platform: Platform, evidence: Evidence, change: Callable[[bytearray], None] = lambda raw: None
) -> bytes:
    """The evidence's QE report, with one thing changed."""
    raw = bytearray(evidence.quote[564:948])
    change(raw)
    return bytes(raw)


def resigned_report(platform: Platform, evidence: Evidence, report: bytes) -> Evidence:
    """Another enclave report, signed by the platform's own attestation key."""
    quote = evidence.quote
    signed = quote[:48] + report
    signature = raw_signature(platform.attestation_key, signed)
    return with_quote(evidence, signed + quote[432:436] + signature + quote[500:])


def certificate(
    issuer: pki.Authority,
    like: pki.Authority,
    *,
    valid: tuple[timedelta, timedelta] = (timedelta(days=-1), timedelta(days=30)),
    drop: type[x509.ExtensionType] | None = None,
    authority: bool | None = None,
    sgx_extension: bytes | None = None,
    hashed: Any = None,
) -> pki.Authority:
    """A certificate for the key and name of `like`, issued by `issuer`, with one thing changed."""
    original = like.certificate
    extensions: list[x509.Extension[x509.ExtensionType]] = []
    for extension in original.extensions:
        value: x509.ExtensionType = extension.value
        if drop is not None and isinstance(value, drop):
            continue
        if isinstance(value, x509.BasicConstraints) and authority is not None:
            value = x509.BasicConstraints(ca=authority, path_length=None)
        if isinstance(value, x509.UnrecognizedExtension) and sgx_extension is not None:
            value = x509.UnrecognizedExtension(value.oid, sgx_extension)
        if isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        extensions.append(x509.Extension(value.oid, extension.critical, value))
    made = certificate_for(
        original.public_key(),
        signer=issuer.key,
        valid=(NOW + valid[0], NOW + valid[1]),
        subject=original.subject,
        issuer=issuer.certificate.subject,
        extensions=extensions,
        hashed=hashed,
    )
    return replace(like, certificate=made)


def binding(attestation_key: ec.EllipticCurvePrivateKey, auth_data: bytes) -> bytes:
    """What a QE report's data must be for this key."""
    raw = raw_public_key(attestation_key.public_key())
    return hashlib.sha256(raw + auth_data).digest().ljust(64, b"\0")
