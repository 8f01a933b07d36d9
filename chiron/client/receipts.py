"""Receipts: what was verified before a grant was sent, and what was granted, to be checked years later.

A receipt is made when the grant is sent, kept in the owner's store, and signed with the key that the grant
names her by. It holds the raw evidence with its collateral, claims and nonce, the policy that it met, the
spec, and the grant in words and by digest: never a key. `scripts/verify_attestation.py` checks one
without us.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from chiron.client.errors import RecordMissing
from chiron.client.granting import grant_in_words
from chiron.client.history import grant_digest
from chiron.client.store import GrantTerms, JobRecord, OwnerStore, read_private, write_private
from chiron.wire.attestation import AttestationPolicy, Claims, Evidence
from chiron.wire.encoding import Digest, Identifier, Signature, SigningPublicKey, WireModel, canonical_json
from chiron.wire.grants import Grant
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import RECEIPT, bind


class Verification(WireModel):
    """Evidence of a job's parameter server that was verified, and when; kept until a grant follows."""

    at: int = Field(ge=0, lt=2**37)
    """Seconds since 1970, by the owner's clock."""
    evidence: Evidence
    policy: AttestationPolicy


class Receipt(WireModel):
    """What the owner signs."""

    version: Literal[1] = 1
    verified: Verification
    spec: JobSpec
    grant_sha256: Digest
    """Of the grant without its secrets, in canonical JSON."""
    words: tuple[str, ...] = Field(max_length=64)
    """The grant, one sentence a line."""
    granted_at: int = Field(ge=0, lt=2**37)
    expires_at: int = Field(ge=0, lt=2**37)
    owner: SigningPublicKey

    def signed_bytes(self) -> bytes:
        """What the owner signs: the label `chiron/v1/receipt` and this receipt's canonical JSON."""
        return bind(RECEIPT, canonical_json(self))


class SignedReceipt(WireModel):
    """One file."""

    receipt: Receipt
    signature: Signature
    """Ed25519 over `receipt.signed_bytes()`."""


def keep_verification(store: OwnerStore, verification: Verification) -> None:
    """Keep the last evidence that was verified of a job's parameter server."""
    name = verification.evidence.claims.job
    path = store.directory("receipts") / f"{name}.verified.json"
    write_private(path, verification.model_dump_json().encode())


def write_receipt(store: OwnerStore, record: JobRecord, grant: Grant, claims: Claims) -> None:
    """Make and keep the receipt of a grant that was sent to the enclave of these claims.

    There is none where that enclave was not the one that this store saw verified last.
    """
    path = store.directory("receipts") / f"{grant.job}.verified.json"
    if not path.exists() or (verified := read_private(path, Verification)).evidence.claims != claims:
        return
    unpaced, oblivious = record.spec.exchange.unpaced, grant.oblivious
    receipt = Receipt(
        verified=verified,
        spec=record.spec,
        grant_sha256=grant_digest(grant),
        words=tuple(grant_in_words(_terms_of(grant), unpaced=unpaced, oblivious=oblivious)),
        granted_at=grant.issued_at,
        expires_at=grant.expires_at,
        owner=record.signing_public_key,
    )
    signed = SignedReceipt(receipt=receipt, signature=record.signing_key.sign(receipt.signed_bytes()))
    write_private(_place(store, grant.job), signed.model_dump_json(indent=1).encode())


def _terms_of(grant: Grant) -> GrantTerms:
    return GrantTerms.model_validate({name: getattr(grant, name) for name in GrantTerms.model_fields})


def receipt_of(store: OwnerStore, job: Identifier) -> SignedReceipt:
    """A job's receipt; it stays when the job is forgotten.

    Raises:
        RecordMissing: nothing was granted from this store.
        RecordUnusable: others can read the file.
    """
    if not _place(store, job).exists():
        raise RecordMissing(f"nothing was granted to job {job} from this store: there is no receipt")
    return read_private(_place(store, job), SignedReceipt)


def _place(store: OwnerStore, job: Identifier) -> Path:
    return store.root / "receipts" / f"{job}.json"
