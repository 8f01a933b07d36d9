"""Making roots and proofs from all entries of a log (RFC 9162, section 2.1).

Plain recursion over the definitions: a log of builds has thousands of entries at most.
"""

from collections.abc import Sequence

from chiron.runtime.transparency.merkle import node_hash


def _split(size: int) -> int:
    """The largest power of two below `size` (which is at least 2)."""
    return 1 << (size - 1).bit_length() - 1


def root(leaves: Sequence[bytes]) -> bytes:
    """Section 2.1.1: the hash over leaf hashes, of which there is at least one."""
    if len(leaves) == 1:
        return leaves[0]
    middle = _split(len(leaves))
    return node_hash(root(leaves[:middle]), root(leaves[middle:]))


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Section 2.1.3.1: the hashes that lead from leaf `index` to the root, lowest first."""
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*inclusion_path(leaves[:middle], index), root(leaves[middle:])]
    return [*inclusion_path(leaves[middle:], index - middle), root(leaves[:middle])]


def consistency_path(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """Section 2.1.4.1: hashes that show that the first `first` leaves (one or more) are the same."""
    if first == len(leaves):
        return []
    return _subproof(leaves, first, whole=True)


def _subproof(leaves: Sequence[bytes], first: int, *, whole: bool) -> list[bytes]:
    if first == len(leaves):
        return [] if whole else [root(leaves)]
    middle = _split(len(leaves))
    if first <= middle:
        return [*_subproof(leaves[:middle], first, whole=whole), root(leaves[middle:])]
    return [*_subproof(leaves[middle:], first - middle, whole=False), root(leaves[:middle])]
