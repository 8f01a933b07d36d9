"""What the transparency log says: entries, signed heads and proofs (RFC 9162's terms)."""

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from chiron.wire.encoding import Digest, Signature, SigningPublicKey, WireModel, canonical_json
from chiron.wire.labels import LOG_HEAD, bind

REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A git commit's name, in full."""
MAX_TREE_SIZE = 2**53 - 1
"""The largest integer that canonical JSON writes exactly."""

Path = Annotated[tuple[Digest, ...], Field(max_length=64)]
"""Hashes from a leaf, or a smaller tree, up to the root: one a level, so never more than 64."""


class LogEntry(WireModel):
    """One build of an enclave image."""

    version: Literal[1] = 1
    measurement: Digest
    """What evidence shows: MRENCLAVE, or for the development TEE the image's own measurement."""
    image_measurement: Digest
    """What `chiron image measure` says of the image's files: whoever rebuilds them gets it."""
    source_revision: Annotated[str, StringConstraints(pattern=f"^({REVISION.pattern})$")]
    """Git commit of the source that was built."""
    lock_sha256: Digest
    """SHA-256 of the dependency lock that was installed."""

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
