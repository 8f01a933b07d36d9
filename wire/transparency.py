"""What the transparency log says: entries, signed heads and proofs (RFC 9162's terms)."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from chiron.wire.encoding import Digest, Signature, SigningPublicKey, WireModel, canonical_json
from chiron.wire.labels import LOG_HEAD, bind

REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A git commit's name, in full."""
MAX_TREE_SIZE = 2**53 - 1
"""The largest integer that canonical JSON writes exactly."""

Path = Annotated[tuple[Digest, ...], Field(max_length=64)]
"""Hashes from a leaf, or a smaller tree, up to the root: one a level, so never more than 64."""


class LogEntry(WireModel):
    """One build of an enclave image: version 2 where its enclave is signed, 1 where it is not."""

    version: Literal[1, 2] = 1
    measurement: Digest
    """What evidence shows: MRENCLAVE, or for the development TEE the image's own measurement."""
    image_measurement: Digest
    """What `chiron image measure` says of the image's files: whoever rebuilds them gets it."""
    source_revision: Annotated[str, StringConstraints(pattern=f"^({REVISION.pattern})$")]
    """Git commit of the source that was built."""
    lock_sha256: Digest
    """SHA-256 of the dependency lock that was installed."""
    signer: Digest | None = None
    """MRSIGNER of the enclave; version 1 has none, and is written without this field."""

    @model_validator(mode="after")
    def _signed_from_version_2(self) -> Self:
        if (self.version == 2) != (self.signer is not None):
            raise ValueError("an entry of version 2 names a signer, one of version 1 does not")
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        if self.version == 1:
            fields.pop("signer", None)
        return fields

    def leaf(self) -> bytes:
        """The bytes that the tree holds for this entry."""
        return canonical_json(self)


class TreeHead(WireModel):
    """The log's state: how many entries, and the hash over all of them."""

    version: Literal[1] = 1
    tree_size: int = Field(ge=1, le=MAX_TREE_SIZE)
    root_sha256: Digest
    timestamp: int = Field(ge=0, le=MAX_TREE_SIZE)
    """Seconds since 1970, UTC, when the head was signed."""

    def signed_bytes(self) -> bytes:
        """What the log's key signs: the label `chiron/v1/log-head` and this head's canonical JSON."""
        return bind(LOG_HEAD, canonical_json(self))


class SignedHead(WireModel):
    """A head that the log's key has signed: the log cannot later deny it."""

    head: TreeHead
    signature: Signature
    """Ed25519 over `head.signed_bytes()`."""


class InclusionProof(WireModel):
    """Proof that an entry is in the log as of a head."""

    entry: LogEntry
    index: int = Field(ge=0, le=MAX_TREE_SIZE)
    path: Path
    head: SignedHead


class ConsistencyProof(WireModel):
    """Proof that a later head only appended to an earlier one."""

    first: SignedHead
    second: SignedHead
    path: Path


class TransparencyPolicy(WireModel):
    """Demands that accepted measurements are in one public log."""

    log_public_key: SigningPublicKey
    proofs: Annotated[tuple[InclusionProof, ...], Field(max_length=64)] = ()
    """Proofs for the accepted measurements. A measurement that none of them names is refused."""
