"""Verifying what a transparency log says: signed heads, inclusion, consistency. Pure."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from chiron.runtime.transparency.merkle import consistency_holds, inclusion_holds, leaf_hash
from chiron.wire.encoding import canonical_json
from chiron.wire.errors import ChironError
from chiron.wire.labels import LOG_HEAD, bind
from chiron.wire.transparency import ConsistencyProof, InclusionProof, SignedHead, TreeHead


class LogRefused(ChironError):
    """What the log says does not hold; the message says which part."""

    code = "log-refused"


def signed_bytes(head: TreeHead) -> bytes:
    """What a log's key signs of a head."""
    return bind(LOG_HEAD, canonical_json(head))


def check_head(signed: SignedHead, log_public_key: bytes) -> None:
    """That the log with this Ed25519 key (32 bytes) signed the head.

    Raises:
        LogRefused: it did not.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(log_public_key)
        key.verify(signed.signature, signed_bytes(signed.head))
    except (InvalidSignature, ValueError) as error:
        raise LogRefused("the head is not signed by this log") from error


def check_inclusion(proof: InclusionProof, log_public_key: bytes) -> None:
    """That the entry is in the log.

    Raises:
        LogRefused: the head or the proof does not hold.
    """
    check_head(proof.head, log_public_key)
    head = proof.head.head
    path = [bytes.fromhex(step) for step in proof.path]
    root = bytes.fromhex(head.root_sha256)
    if not inclusion_holds(leaf_hash(proof.entry.leaf()), proof.index, head.tree_size, path, root):
        raise LogRefused("the entry is not in the log where the proof says")


def check_consistency(proof: ConsistencyProof, log_public_key: bytes) -> None:
    """That the second head only appended to the first.

    Raises:
        LogRefused: a head or the proof does not hold: entries were changed or removed.
    """
    check_head(proof.first, log_public_key)
    check_head(proof.second, log_public_key)
    first, second = proof.first.head, proof.second.head
    path = [bytes.fromhex(step) for step in proof.path]
    roots = bytes.fromhex(first.root_sha256), bytes.fromhex(second.root_sha256)
    if not consistency_holds(first.tree_size, roots[0], second.tree_size, roots[1], path):
        raise LogRefused("the later head does not contain the earlier one: the log was rewritten")
