"""Openings of predictors and their answer, as they travel: sealed, and of one size.

An opening is signed by the model's owner over all of it: the predictor's key, a number that ascends, the
share. It is sealed to the key in the predictor's verified evidence (label OPENING, context: the job's id).
Padding hides how many passes there are.

The answer, and what a predictor leaves in storage at its end, is a settlement of what the opening before it
let be asked. It is sealed under a key that only the owner and the opened predictor can derive, from her share
(label SETTLEMENT), and signed with the predictor's TLS key, whose digest is in its evidence. An answer is
bound to the opening that it answers: no older one passes for word that a newer opening was taken.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pydantic import ValidationError

from chiron.runtime.errors import OpeningRefused, SealingError, StatementInvalid
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.padding import pad, unpad
from chiron.runtime.sealing.sealer import open_blob, seal_blob
from chiron.wire import codes
from chiron.wire.encoding import sha256_hex
from chiron.wire.labels import OPENING, SETTLEMENT, bind
from chiron.wire.objects import settlement as settlement_object
from chiron.wire.opening import (
    Opening,
    Settlement,
    SignedOpening,
    SignedSettlement,
    SignedStatement,
    Statement,
)
from chiron.wire.p256 import public_key_der

OPENING_BYTES = 128 * 1024
"""Room for as many passes as there can be."""
SETTLEMENT_BYTES = settlement_object().content_bytes


def seal_opening(opening: Opening, owner: Ed25519PrivateKey, predictor_key: bytes) -> bytes:
    """The opening, signed by the model's owner, for the predictor whose HPKE key this is."""
    signed = SignedOpening(opening=opening, signature=owner.sign(opening.signed_bytes()))
    padded = pad(signed.model_dump_json().encode(), OPENING_BYTES)
    return hpke.seal(predictor_key, padded, label=OPENING, context=bytes.fromhex(opening.job))


def open_opening(sealed: bytes, key: hpke.PrivateKey, job: str) -> SignedOpening:
    """The predictor's side of `seal_opening`. Who signed it is not known yet.

    Raises:
        OpeningRefused: not sealed to this key and job, malformed, or meant for another.
    """
    try:
        signed = SignedOpening.model_validate_json(
            unpad(hpke.open(key, sealed, label=OPENING, context=bytes.fromhex(job)))
        )
    except (SealingError, ValidationError):
        # From None: a validation error quotes the content, which holds the share.
        raise OpeningRefused(
            codes.OPENING_UNREADABLE, "no opening that is sealed to this predictor"
        ) from None
    opening = signed.opening
    if opening.job != job or opening.predictor_key_sha256 != sha256_hex(key.public_bytes):
        raise OpeningRefused("opening-for-another", "the opening names another job or predictor")
    return signed


def check_owner(signed: SignedOpening, owner: bytes) -> None:
    """
    Raises:
        OpeningRefused: `owner`, an Ed25519 public key, did not sign it.
    """
    try:
        Ed25519PublicKey.from_public_bytes(owner).verify(signed.signature, signed.opening.signed_bytes())
    except (InvalidSignature, ValueError) as error:
        raise OpeningRefused("opening-unsigned", "the model's owner did not sign the opening") from error


def sign_statement(statement: Statement, key: ec.EllipticCurvePrivateKey) -> SignedStatement:
    """The statement, signed with the predictor's TLS key."""
    signature = key.sign(statement.signed_bytes(), ec.ECDSA(SHA256()))
    return SignedStatement(statement=statement, key=public_key_der(key.public_key()), signature=signature)


def sign_settlement(settlement: Settlement, key: ec.EllipticCurvePrivateKey) -> SignedSettlement:
    """The settlement, signed with the predictor's TLS key."""
    signature = key.sign(settlement.signed_bytes(), ec.ECDSA(SHA256()))
    return SignedSettlement(settlement=settlement, key=public_key_der(key.public_key()), signature=signature)


def check_signed(signed: SignedStatement | SignedSettlement, tls_public_key_sha256: str) -> None:
    """Check a signature by the digest of the TLS key that the predictor's evidence had.

    Raises:
        StatementInvalid: another key, or it did not sign this.
    """
    content = signed.statement if isinstance(signed, SignedStatement) else signed.settlement
    if sha256_hex(signed.key) != tls_public_key_sha256:
        raise StatementInvalid("the key is not the one in the predictor's evidence")
    try:
        public_key = load_der_public_key(signed.key)
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise StatementInvalid("the key is not an elliptic curve's")
        public_key.verify(signed.signature, content.signed_bytes(), ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise StatementInvalid("the predictor did not sign this") from error


def seal_settlement(
    settled: SignedSettlement | None, share: bytes, job: str, answers: Opening | None = None
) -> bytes:
    """A settlement, or that there is none: of one size.

    `answers` is the opening that this is the answer to; None for one that is left in storage.
    """
    content = settled.model_dump_json().encode() if settled is not None else b""
    context = _settlement_context(job, answers)
    return seal_blob(_key(share, job), content, size=SETTLEMENT_BYTES, label=SETTLEMENT, context=context)


def open_settlement(
    sealed: bytes, share: bytes, job: str, answers: Opening | None = None
) -> SignedSettlement | None:
    """The owner's side of `seal_settlement`. Its signature is not checked yet.

    Raises:
        StatementInvalid: not sealed under this share for this job and opening, or malformed.
    """
    try:
        context = _settlement_context(job, answers)
        content = open_blob(_key(share, job), sealed, label=SETTLEMENT, context=context)
        return SignedSettlement.model_validate_json(content) if content else None
    except (SealingError, ValidationError) as error:
        raise StatementInvalid("no settlement that is sealed under this job's share") from error


def _settlement_context(job: str, answers: Opening | None) -> bytes:
    digest = hashlib.sha256(answers.signed_bytes()).digest() if answers is not None else b""
    return bytes.fromhex(job) + digest


def _key(share: bytes, job: str) -> bytes:
    info = bind(SETTLEMENT, bytes.fromhex(job))
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(share)
