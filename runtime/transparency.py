"""What a transparency log says, verified: signed heads, inclusion, consistency. Pure.

Trees, hashes and proofs are those of RFC 9162 (and 6962), whose section numbers stand below. Making proofs
needs the whole log and lives with it (`chiron.enclave_image.transparency_log`); a verifier needs only this.
A policy may be given proofs from anywhere, as they prove themselves.
"""

import hashlib
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from chiron.runtime.errors import LogRefused
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.transparency import ConsistencyProof, InclusionProof, SignedHead

MAX_PROOFS = 64
"""Inclusion proofs in one policy."""


def check_head(signed: SignedHead, log_public_key: bytes) -> None:
    """Check that the log with this Ed25519 key (32 bytes) signed the head.

    Raises:
        LogRefused: it did not.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(log_public_key)
        key.verify(signed.signature, signed.head.signed_bytes())
    except (InvalidSignature, ValueError) as error:
        raise LogRefused("the head is not signed by this log") from error


def check_inclusion(proof: InclusionProof, log_public_key: bytes) -> None:
    """Check that the entry is in the log.

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
    """Check that the second head only appended to the first.

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


def lacks_proofs(policy: AttestationPolicy) -> bool:
    """Whether the policy demands the log for code that none of its own proofs names."""
    if policy.transparency is None:
        return False
    proved = {proof.entry.measurement for proof in policy.transparency.proofs}
    return not policy.measurements or not policy.measurements <= proved


def with_proofs(policy: AttestationPolicy, proofs: Iterable[InclusionProof]) -> AttestationPolicy:
    """The policy with these proofs after its own, where it lacks some. Verification checks the one used."""
    if policy.transparency is None:
        return policy
    own = policy.transparency.proofs
    proved = {proof.entry.measurement for proof in own}
    wanted = [
        proof
        for proof in proofs
        if proof.entry.measurement not in proved
        and (not policy.measurements or proof.entry.measurement in policy.measurements)
    ]
    together = (*own, *wanted)[:MAX_PROOFS]
    return policy.model_copy(
        update={"transparency": policy.transparency.model_copy(update={"proofs": together})}
    )


def leaf_hash(entry: bytes) -> bytes:
    """Section 2.1.1: a leaf's hash begins with 0, a node's with 1, so that neither passes for the other."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Section 2.1.1: the hash over two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


def inclusion_holds(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Section 2.1.3.2: whether the entry with hash `leaf` is at `index` of the tree of `size` with `root`."""
    if not 0 <= index < size:
        return False
    place, last, current = index, size - 1, leaf
    for step in path:
        if last == 0:
            return False
        if place & 1 or place == last:
            current = node_hash(step, current)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            current = node_hash(current, step)
        place, last = place >> 1, last >> 1
    return last == 0 and current == root


def consistency_holds(
    first_size: int, first_root: bytes, second_size: int, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Section 2.1.4.2: whether the second tree begins with the entries of the first."""
    if first_size == second_size:
        return first_root == second_root and not path
    if not 0 < first_size < second_size:
        return False
    steps = list(path)
    if first_size & (first_size - 1) == 0:
        steps.insert(0, first_root)
    if not steps:
        return False
    place, last = first_size - 1, second_size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, step)
        place, last = place >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root
