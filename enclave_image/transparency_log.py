"""The transparency log of builds: an append-only Merkle tree in a folder of text files.

    entries.jsonl   one `LogEntry` a line, canonical JSON: the leaves
    heads.jsonl     one `SignedHead` a line: every state the log was ever signed in
    public-key      the log's Ed25519 public key, hexadecimal

Anyone can be given the folder and check all of it (`TransparencyLog.open` does); the key lies elsewhere.
Why not a library: docs/adr/0006-transparency-log.md.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from chiron.enclave_image.errors import LogCorrupted
from chiron.runtime.errors import LogRefused
from chiron.runtime.transparency import check_head, leaf_hash, node_hash
from chiron.wire.encoding import WireModel, canonical_json
from chiron.wire.transparency import (
    ConsistencyProof,
    InclusionProof,
    LogEntry,
    SignedHead,
    TreeHead,
)

ENTRIES = "entries.jsonl"
HEADS = "heads.jsonl"
PUBLIC_KEY = "public-key"
_Line = TypeVar("_Line", bound=WireModel)


class TransparencyLog:
    """A log as it was when it was opened, every head checked. Nothing is cached across processes."""

    def __init__(
        self, directory: Path, public_key: bytes, entries: Sequence[LogEntry], heads: Sequence[SignedHead]
    ) -> None:
        self._directory = directory
        self.public_key = public_key
        self.entries = tuple(entries)
        self.heads = tuple(heads)
        self._leaves = [leaf_hash(entry.leaf()) for entry in entries]

    @classmethod
    def create(cls, directory: Path, public_key: bytes) -> Self:
        """An empty log, signed by the holder of this Ed25519 key.

        Raises:
            LogCorrupted: there is a log already.
        """
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with (directory / PUBLIC_KEY).open("x") as file:
                file.write(public_key.hex() + "\n")
        except FileExistsError as error:
            raise LogCorrupted(f"{directory} holds a log already") from error
        return cls(directory, public_key, (), ())

    @classmethod
    def open(cls, directory: Path) -> Self:
        """The log in `directory`: every head must be signed, and hold for the entries that are there.

        Raises:
            LogCorrupted: there is none, or it was changed.
        """
        try:
            public_key = bytes.fromhex((directory / PUBLIC_KEY).read_text().strip())
        except (OSError, ValueError) as error:
            raise LogCorrupted(f"{directory} holds no log") from error
        # Heads first: whoever appends meanwhile writes the entry first, so every head finds its entries.
        heads = list(_lines(directory / HEADS, SignedHead))
        entries = list(_lines(directory / ENTRIES, LogEntry))
        log = cls(directory, public_key, entries, heads)
        for head in heads:
            log._check(head)
        # An entry without a head was cut off by a crash before it was signed: it was never promised.
        signed = heads[-1].head.tree_size if heads else 0
        return cls(directory, public_key, entries[:signed], heads)

    @property
    def head(self) -> SignedHead:
        """The latest.

        Raises:
            LogCorrupted: the log is empty.
        """
        if not self.heads:
            raise LogCorrupted("the log has no entry yet")
        return self.heads[-1]

    def append(self, entry: LogEntry, key: Ed25519PrivateKey, now: datetime) -> Self:
        """The log with an entry more and a new signed head. Others that append meanwhile wait.

        An entry that the log has already, word for word, is not appended again.

        Raises:
            LogCorrupted: the log on disk was changed, or `key` is not its key.
        """
        if key.public_key().public_bytes_raw() != self.public_key:
            raise LogCorrupted("this is not the log's key")
        with _locked(self._directory):
            current = type(self).open(self._directory)
            if entry in current.entries:
                return current
            entries = (*current.entries, entry)
            leaves = [leaf_hash(each.leaf()) for each in entries]
            timestamp = int(now.timestamp())
            if current.heads:
                timestamp = max(timestamp, current.head.head.timestamp)
            head = TreeHead(tree_size=len(entries), root_sha256=root(leaves).hex(), timestamp=timestamp)
            signed = SignedHead(head=head, signature=key.sign(head.signed_bytes()))
            _rewrite_tail(self._directory / ENTRIES, current.entries, entry)
            _rewrite_tail(self._directory / HEADS, current.heads, signed)
        return type(self)(self._directory, self.public_key, entries, (*current.heads, signed))

    def prove_inclusion(self, measurement: str) -> InclusionProof:
        """Proof that the latest entry of `measurement` is in the log, as of the latest head.

        Raises:
            LogCorrupted: no entry names it.
        """
        for entry in reversed(self.entries):
            if entry.measurement == measurement:
                return self.prove_entry(entry)
        raise LogCorrupted("the log has no entry of that measurement")

    def prove_entry(self, entry: LogEntry) -> InclusionProof:
        """Proof that exactly this entry is in the log, as of the latest head.

        Raises:
            LogCorrupted: it is not.
        """
        if entry not in self.entries:
            raise LogCorrupted("the log has no such entry")
        index = self.entries.index(entry)
        path = tuple(step.hex() for step in inclusion_path(self._leaves, index))
        return InclusionProof(entry=entry, index=index, path=path, head=self.head)

    def prove_consistency(self, since: SignedHead) -> ConsistencyProof:
        """Proof that the latest head only appended to `since`.

        Raises:
            LogCorrupted: `since` is not of this log.
        """
        self._check(since)
        path = consistency_path(self._leaves, since.head.tree_size)
        return ConsistencyProof(first=since, second=self.head, path=tuple(step.hex() for step in path))

    def _check(self, signed: SignedHead) -> None:
        try:
            check_head(signed, self.public_key)
        except LogRefused as error:
            raise LogCorrupted(str(error)) from error
        size = signed.head.tree_size
        if size > len(self._leaves) or root(self._leaves[:size]).hex() != signed.head.root_sha256:
            raise LogCorrupted(f"the entries are not those of the head over {size}: the log was rewritten")


def _lines(path: Path, model: type[_Line]) -> Iterator[_Line]:
    """Complete lines only: a crash may have cut the last one."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    for line in raw.split(b"\n")[:-1]:
        try:
            parsed = model.model_validate_json(line)
        except ValidationError as error:
            raise LogCorrupted(f"{path.name} holds something else than the log wrote") from error
        if canonical_json(parsed) != line:
            raise LogCorrupted(f"{path.name} is not written canonically")
        yield parsed


def _rewrite_tail(path: Path, kept: Sequence[WireModel], added: WireModel) -> None:
    """Append one line after the kept ones; what a crash left behind them is cut off."""
    length = sum(len(canonical_json(line)) + 1 for line in kept)
    with path.open("ab") as file:
        file.truncate(length)
        file.write(canonical_json(added) + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / PUBLIC_KEY).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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


def _split(size: int) -> int:
    """The largest power of two below `size` (which is at least 2)."""
    return 1 << (size - 1).bit_length() - 1
