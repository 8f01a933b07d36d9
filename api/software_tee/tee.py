"""The development TEE of one machine, and the service that quotes for its enclaves.

Its secrets and PKI are kept in a private directory across restarts.
"""

import asyncio
import datetime
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import ValidationError

from chiron.api.software_tee import pki
from chiron.api.software_tee.collateral import create_collateral
from chiron.api.software_tee.quote import EnclaveIdentity, pack_report, sign_quote
from chiron.wire.attestation import Collateral
from chiron.wire.p256 import generate_key
from chiron.wire.quoting import (
    LENGTH,
    MAX_REQUEST_BYTES,
    QuoteRequest,
    QuotingReply,
    QuotingRequest,
    frame,
)

_AUTHORITIES = ("root", "platform-ca", "tcb-signing", "pck")
_FUSE_SECRET_BYTES = 32
_RENEW_AFTER = pki.CRL_VALIDITY / 2
_LOG = logging.getLogger(__name__)


class SoftwareTee:
    """Stands where the processor and the quoting enclave stand. Protects nothing: development only."""

    def __init__(self, authorities: dict[str, pki.Authority], fuse_secret: bytes) -> None:
        self._root = authorities["root"]
        self._platform_ca = authorities["platform-ca"]
        self._tcb_signing = authorities["tcb-signing"]
        self._pck = authorities["pck"]
        self._fuse_secret = fuse_secret
        self._attestation_key = generate_key()
        self._pck_chain = self._pck.pem + self._platform_ca.pem + self._root.pem
        self._collateral: tuple[datetime.datetime, dict[str, str]] | None = None

    @classmethod
    def open(cls, directory: Path, now: datetime.datetime) -> Self:
        """The TEE kept in `directory` (made private), created at first use.

        Where `root.pem`, `platform-ca.pem` and `tcb-signing.pem` of another are there already, it is one more
        machine of the same maker: a policy that trusts the root takes both.

        Raises:
            ValueError: a secret that was kept cannot be read back.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        if not (directory / "fuse-secret").exists():
            _create(directory, now)
        authorities = {name: _load(directory / f"{name}.pem") for name in _AUTHORITIES}
        fuse_secret = (directory / "fuse-secret").read_bytes()
        if len(fuse_secret) != _FUSE_SECRET_BYTES:
            raise ValueError("fuse-secret is not whole: this TEE's secrets are lost")
        return cls(authorities, fuse_secret)

    @property
    def root_pem(self) -> bytes:
        """The root certificate a verifier must be given to trust this TEE, PEM."""
        return self._root.pem

    @property
    def root_der(self) -> bytes:
        """The root certificate a verifier must be given to trust this TEE, DER."""
        return self._root.der

    def quote(self, identity: EnclaveIdentity, report_data: bytes) -> bytes:
        """A genuine v3 quote over 64 bytes of `report_data` for the enclave of this identity."""
        report = pack_report(identity, report_data)
        return sign_quote(report, self._attestation_key, self._pck, self._pck_chain)

    def collateral(self, now: datetime.datetime) -> dict[str, str]:
        """Current collateral, renewed when half of its life is over."""
        if self._collateral is None or now - self._collateral[0] > _RENEW_AFTER:
            # Backdated by a minute, so that a verifier whose clock lags does not find it in the future.
            issued = now - datetime.timedelta(minutes=1)
            collateral = create_collateral(
                self._root, self._platform_ca, self._tcb_signing, self._pck_chain, issued
            )
            self._collateral = (now, collateral)
        return self._collateral[1]

    def sealing_key(self, identity: EnclaveIdentity, policy: str, label: bytes) -> bytes:
        """32 bytes that only enclaves of this measurement (or signer and product) on this machine get."""
        product = identity.product_id.to_bytes(2, "little")
        bound = identity.measurement if policy == "measurement" else identity.signer + product
        info = b"chiron/v1/software-seal\0" + policy.encode() + b"\0" + bound + label
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(self._fuse_secret)


async def serve_quotes(tee: SoftwareTee, socket: Path, identity: EnclaveIdentity) -> asyncio.Server:
    """Serve quotes and sealing keys for `identity` on `socket` until the returned server is closed."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                if length > MAX_REQUEST_BYTES:
                    break
                body = await reader.readexactly(length)
                writer.write(frame(_answer(tee, identity, QuotingRequest.model_validate_json(body))))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except ValidationError:
            _LOG.warning("an enclave sent the quoting service a malformed request")
        finally:
            writer.close()

    return await asyncio.start_unix_server(converse, path=socket)


def _answer(tee: SoftwareTee, identity: EnclaveIdentity, message: QuotingRequest) -> QuotingReply:
    request = message.request
    if isinstance(request, QuoteRequest):
        collateral = Collateral.model_validate(tee.collateral(datetime.datetime.now(datetime.UTC)))
        return QuotingReply(quote=tee.quote(identity, request.report_data), collateral=collateral)
    return QuotingReply(sealing_key=tee.sealing_key(identity, request.policy, request.label))


def _create(directory: Path, now: datetime.datetime) -> None:
    root = _kept(directory, "root", lambda: pki.create_root(now))
    platform_ca = _kept(directory, "platform-ca", lambda: pki.create_platform_ca(root, now))
    _kept(directory, "tcb-signing", lambda: pki.create_tcb_signing(root, now))
    _kept(directory, "pck", lambda: pki.create_pck(platform_ca, secrets.token_bytes(16), now))
    (directory / "root-certificate.pem").write_bytes(root.pem)
    # Last, as its presence says that the rest is complete.
    _write_private(directory / "fuse-secret", secrets.token_bytes(_FUSE_SECRET_BYTES))


def _kept(directory: Path, name: str, create: Callable[[], pki.Authority]) -> pki.Authority:
    """The authority that is there, or a new one."""
    path = directory / f"{name}.pem"
    if path.exists():
        return _load(path)
    authority = create()
    key = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_private(path, key + authority.pem)
    return authority


def _write_private(path: Path, content: bytes) -> None:
    """Whole or not at all: a crash must not leave half a secret under the name."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_bytes(content)
    partial.replace(path)


def _load(path: Path) -> pki.Authority:
    pem = path.read_bytes()
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise ValueError(f"{path.name} does not hold a key and its certificate") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path.name} does not hold an EC key")
    return pki.Authority(key, certificate)
