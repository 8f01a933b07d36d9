"""What opens a predictor, who may ask it, and what it says that it answered.

A predictor starts locked: its model is sealed under its owner's share too. The owner verifies it and sends it
an `Opening`: the share, what may still be answered, and to whom. `Pass` is what she gives a colleague.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from chiron.wire.encoding import (
    Base64,
    Digest,
    Identifier,
    Share,
    Signature,
    SigningPublicKey,
    WireModel,
    canonical_json,
)
from chiron.wire.labels import OPENING_SIGNATURE, SETTLEMENT_SIGNATURE, STATEMENT, bind

MAX_PASSES = 256
"""Passes of one job that hold at a time."""
OWNER: Identifier = "0" * 32
"""Who asks, where it is the model's owner; no pass has this id."""
MOST_ROWS = 2**53 - 1
"""As JSON's numbers are exact up to there. Sums stop at it."""
Time = Annotated[int, Field(ge=0, lt=2**37)]
"""Seconds since 1970, UTC."""


class Pass(WireModel):
    """What the owner lets another ask of her model. It only narrows what her grant lets her ask herself."""

    version: Literal[1] = 1
    id: Identifier
    job: Identifier
    holder: SigningPublicKey
    """Queries under this pass are signed by this key."""
    rows: int = Field(ge=1, lt=2**53)
    """Rows that may be asked under it, in all."""
    until: Time
    top_k: int = Field(default=0, ge=0, le=100_000)
    """Classes told per row, best first; 0 is as many as the grant tells."""
    decimals: int = Field(default=9, ge=0, le=9)
    """Scores are rounded to these decimals, or to the grant's where those are fewer."""


class PassLease(WireModel):
    """A pass that holds, and the rows of it that one opened predictor may answer."""

    allowed: Pass
    rows: int = Field(ge=0, lt=2**53)
    spent: int = Field(default=0, ge=0, lt=2**53)
    """Rows of it that the owner's ledger counts as spent before this."""


class Opening(WireModel):
    """Sealed by HPKE to the key in a predictor's verified evidence: one start of one enclave."""

    version: Literal[1] = 1
    job: Identifier
    predictor_key_sha256: Digest
    """Of the HPKE key that this is sealed to."""
    number: int = Field(ge=1, lt=2**53)
    """Ascends with every opening of the job: a predictor takes none that is not newer than its last."""
    share: Share
    rows: int | None = Field(ge=0, lt=2**53)
    """Rows that it may answer the owner, from here on; None is any number."""
    spent: int = Field(default=0, ge=0, lt=2**53)
    """Rows that the owner's ledger counts as spent before this, by all: settlements go on from there."""
    passes: tuple[PassLease, ...] = Field(default=(), max_length=MAX_PASSES)
    """Who else may ask. A pass that is not here (any more) holds no longer."""
    issued_at: Time
    until: Time
    """From then on it answers nobody, until it is opened anew."""

    @model_validator(mode="after")
    def _passes_are_the_jobs(self) -> Self:
        ids = {OWNER} | {lease.allowed.id for lease in self.passes}
        if len(ids) <= len(self.passes):
            raise ValueError("a pass is named twice, or as the owner is")
        if any(lease.allowed.job != self.job for lease in self.passes):
            raise ValueError("a pass is of another job")
        return self

    def signed_bytes(self) -> bytes:
        """What the owner signs."""
        return bind(OPENING_SIGNATURE, canonical_json(self))


class SignedOpening(WireModel):
    """Signed with the key that the model names its owner by. Secret: it holds the share."""

    opening: Opening
    signature: Signature
    """Ed25519 over `opening.signed_bytes()`."""


class Statement(WireModel):
    """What a predictor attests that it has answered since it was last opened."""

    version: Literal[1] = 1
    job: Identifier
    predictor_key_sha256: Digest
    opening: int = Field(ge=1, lt=2**53)
    queries: int = Field(ge=0, lt=2**53)
    """Ascends by one with every query that was answered."""
    rows: int = Field(ge=0, lt=2**53)
    """Rows answered to all."""
    pass_rows: int | None = Field(default=None, ge=0, lt=2**53)
    """Rows answered under the pass of the query that this goes with; None where the owner asked."""

    def signed_bytes(self) -> bytes:
        """What the predictor signs."""
        return bind(STATEMENT, canonical_json(self))


class PassRows(WireModel):
    """How many rows were answered under one pass."""

    id: Identifier
    rows: int = Field(ge=0, lt=2**53)
    spent: int = Field(default=0, ge=0, lt=2**53)
    """What the opening said was spent of it before, and `rows`."""


class Settlement(WireModel):
    """A predictor's last word on one opening: nothing more is answered under it.

    It names the opening before, and what the owner's ledger had counted: so it shows which openings never
    arrived, and what a ledger that was set back has forgotten.
    """

    version: Literal[1] = 1
    job: Identifier
    predictor_key_sha256: Digest
    opening: int = Field(ge=1, lt=2**53)
    previous: int = Field(default=0, ge=0, lt=2**53)
    """The opening that this start of the predictor took before; 0 if none. None in between was ever taken."""
    queries: int = Field(ge=0, lt=2**53)
    rows: int = Field(ge=0, lt=2**53)
    """Rows answered to the owner."""
    spent: int = Field(default=0, ge=0, lt=2**53)
    """What the opening said was spent before, and all rows that were answered."""
    passes: tuple[PassRows, ...] = Field(default=(), max_length=MAX_PASSES)
    """Rows answered under each pass of the opening."""

    def signed_bytes(self) -> bytes:
        """What the predictor signs."""
        return bind(SETTLEMENT_SIGNATURE, canonical_json(self))


TlsPublicKey = Annotated[Base64, Field(min_length=1, max_length=128)]
"""DER. Its SHA-256 is in the predictor's evidence, so that an auditor can check what it signed."""
TlsSignature = Annotated[Base64, Field(min_length=8, max_length=72)]
"""ECDSA P-256, SHA-256, DER."""


class SignedStatement(WireModel):
    """Signed by the predictor."""

    statement: Statement
    key: TlsPublicKey
    signature: TlsSignature


class SignedSettlement(WireModel):
    """Signed by the predictor."""

    settlement: Settlement
    key: TlsPublicKey
    signature: TlsSignature
