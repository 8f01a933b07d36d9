"""The development TEE's certificates, shaped as Intel's: root, platform CA, PCK, TCB signing, CRLs.

Intel SGX PCK Certificate and CRL Profile Specification, rev. 1.5. Everything a verifier checks of Intel's
chain it checks of this one; the root is the one difference, and no verifier trusts it unless told to.
"""

import datetime
from dataclasses import dataclass
from hashlib import sha256

from asn1crypto import core
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.wire.p256 import Issuer, common_name, generate_key, key_usage

VALIDITY = datetime.timedelta(days=3650)
CRL_VALIDITY = datetime.timedelta(days=30)
CRL_URL = "https://software-tee.invalid/crl"
FMSPC = bytes.fromhex("00606a000000")
PCE_ID = bytes(2)
CPU_SVN = bytes([1] * 16)
PCE_SVN = 13

_SGX_EXTENSION = "1.2.840.113741.1.13.1"


@dataclass(frozen=True)
class Authority:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)


def create_root(now: datetime.datetime) -> Authority:
    """A self-signed root whose name says what it is."""
    return _issue("Chiron SOFTWARE TEE Root CA (development only)", None, now, authority=True)


def create_platform_ca(root: Authority, now: datetime.datetime) -> Authority:
    """Issues PCK certificates. The name must be Intel's: verifiers choose the CRL by it."""
    return _issue("Intel SGX PCK Platform CA", root, now, authority=True)


def create_tcb_signing(root: Authority, now: datetime.datetime) -> Authority:
    """Signs TCB info and QE identity."""
    return _issue("Chiron SOFTWARE TEE TCB Signing", root, now, authority=False)


def create_pck(platform_ca: Authority, ppid: bytes, now: datetime.datetime) -> Authority:
    """The platform's own certificate: its key signs the quoting enclave's report."""
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(_SGX_EXTENSION), sgx_extension(ppid))
    return _issue("Chiron SOFTWARE TEE PCK", platform_ca, now, authority=False, extra=extension)


def create_crl(issuer: Authority, now: datetime.datetime, revoked: tuple[int, ...] = ()) -> bytes:
    """A CRL of `issuer` in DER, with these serial numbers revoked."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + CRL_VALIDITY)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    crl = builder.sign(issuer.key, hashes.SHA256())
    return crl.public_bytes(serialization.Encoding.DER)


def sgx_extension(ppid: bytes) -> bytes:
    """DER of the SGX extension (profile, section 1.3.5), as a platform of several packages has it.

    It says of SMT and the like what is worst, as this TEE protects nothing.
    """
    configuration = [(f".7.{place}", core.Boolean(True)) for place in (1, 2, 3)]
    components = [(f".2.{place}", core.Integer(svn)) for place, svn in enumerate(CPU_SVN, start=1)]
    tcb = [*components, (".2.17", core.Integer(PCE_SVN)), (".2.18", core.OctetString(CPU_SVN))]
    return _named_values(
        [
            (".1", core.OctetString(ppid)),
            (".2", _RawSequence.load(_named_values(tcb))),
            (".3", core.OctetString(PCE_ID)),
            (".4", core.OctetString(FMSPC)),
            (".5", _SgxType(0)),
            (".6", core.OctetString(sha256(b"software platform instance" + ppid).digest()[:16])),
            (".7", _RawSequence.load(_named_values(configuration))),
        ]
    )


class _SgxType(core.Enumerated):  # type: ignore[misc]
    _map = {0: "standard", 1: "scalable"}  # noqa: RUF012 - asn1crypto's way


class _RawSequence(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.Any


class _NamedValue(core.Sequence):  # type: ignore[misc]
    _fields = [("oid", core.ObjectIdentifier), ("value", core.Any)]  # noqa: RUF012 - asn1crypto's way


def _named_values(values: list[tuple[str, core.Asn1Value]]) -> bytes:
    entries = [_NamedValue({"oid": _SGX_EXTENSION + suffix, "value": value}) for suffix, value in values]
    return bytes(_RawSequence(entries).dump())


def _issue(
    name: str,
    issuer: Authority | None,
    now: datetime.datetime,
    *,
    authority: bool,
    extra: x509.UnrecognizedExtension | None = None,
) -> Authority:
    key = generate_key()
    subject = common_name(name, "Chiron development")
    issuing = Issuer(issuer.certificate.subject, issuer.key) if issuer else Issuer(subject, key)
    path_length = 1 if issuer is None else 0 if authority else None
    uses = ("key_cert_sign", "crl_sign") if authority else ("digital_signature", "content_commitment")
    distribution = x509.DistributionPoint([x509.UniformResourceIdentifier(CRL_URL)], None, None, None)
    certificate = issuing.issue(
        subject,
        key.public_key(),
        now,
        VALIDITY,
        critical=[x509.BasicConstraints(ca=authority, path_length=path_length), key_usage(*uses)],
        informative=[
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.key.public_key()),
            x509.CRLDistributionPoints([distribution]),
            *([extra] if extra is not None else []),
        ],
    )
    return Authority(key, certificate)
