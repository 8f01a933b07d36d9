"""Opening a grant: decrypt, parse, check who gave it and for what; and its name among enclaves."""

import hmac
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.errors import GrantRefused, SealingError
from chiron.runtime.sealing import hpke
from chiron.wire import codes
from chiron.wire.encoding import canonical_json, sha256_hex
from chiron.wire.grants import Grant, SignedGrant
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import GRANT, GRANT_NAME, bind


def open_grant(sealed: bytes, key: hpke.PrivateKey, spec: JobSpec, now: datetime) -> Grant:
    """The grant in `sealed`, if its owner gave it to this very enclave for the job that `spec` describes.

    The host told us `spec`; the owner's digest of it in the grant is what makes it true. Whose grant it is,
    the grant itself says: what the job makes is sealed for that owner, and nobody else's opens to it.

    1. It opens with our key, for this job, and follows its schema.
    2. It is signed by the owner whom it names, for our key.
    3. It names this job, the spec's digest and the dataset's.
    4. It has not expired.

    Raises:
        GrantRefused: one of these does not hold.
    """
    try:
        plaintext = hpke.open(key, sealed, label=GRANT, context=bytes.fromhex(spec.job))
    except SealingError as error:
        raise GrantRefused(
            codes.GRANT_UNREADABLE, "the grant is not sealed to this enclave and job"
        ) from error
    try:
        signed = SignedGrant.model_validate_json(plaintext)
    except ValidationError:
        # From None: the validation error quotes the plaintext, which holds the dataset key.
        raise GrantRefused("grant-malformed", "the grant does not follow its schema") from None
    grant = signed.grant
    _check_signature(signed, sha256_hex(key.public_bytes))
    if grant.job != spec.job:
        raise GrantRefused("grant-for-another-job", "the grant names another job")
    if grant.spec_digest != spec.digest() or grant.oblivious is not spec.oblivious:
        raise GrantRefused("grant-spec-mismatch", "the host launched us with another job spec")
    if grant.dataset_digest != spec.dataset.digest():
        raise GrantRefused("grant-dataset-mismatch", "the job spec names another dataset")
    check_expiry(grant, now)
    return grant


def _check_signature(signed: SignedGrant, key_sha256: str) -> None:
    grant = signed.grant
    try:
        owner = Ed25519PublicKey.from_public_bytes(grant.owner_signing_key)
        owner.verify(signed.signature, grant.signed_bytes(key_sha256))
    except (InvalidSignature, ValueError) as error:
        raise GrantRefused(
            "grant-unsigned", "the grant is not signed by the owner whom it names, for this enclave"
        ) from error


def check_expiry(grant: Grant, now: datetime) -> None:
    """Refuse a grant whose time is over. `now` is the host's, but taken for no earlier than the grant.

    Raises:
        GrantRefused: it has expired.
    """
    if max(now.timestamp(), grant.issued_at) >= grant.expires_at:
        raise GrantRefused(codes.GRANT_EXPIRED, "the grant has expired: its owner must give another")


def grant_name(grant: Grant | Ticket, spec_digest: str) -> bytes:
    """The grant's name: 32 bytes, the same for every holder, which tell nothing of its content.

    What a job's enclaves keep and exchange is bound to it: a host can start the same job again with a grant
    of its own, and must not have what was made under another opened there. When it was given, until when, and
    by which policy are no part of it: the owner may send it again with others.
    """
    told = (
        bytes.fromhex(spec_digest),
        grant.owner_public_key,
        grant.owner_signing_key,
        canonical_json(grant.capabilities),
        canonical_json(grant.prediction),
    )
    return hmac.digest(grant.dataset_key + grant.share, bind(GRANT_NAME, b"\0".join(told)), "sha256")
