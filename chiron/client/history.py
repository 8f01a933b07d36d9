"""What the owner's side did with a job: an append-only file of JSON lines, each bound to the one before.

Every line holds the SHA-256 of the line before it, so a line that is changed, removed or put in later breaks
the chain; and beside the file it says how far it goes, so one that is cut off at its end shows as well.
Whoever can write the store can also write a new chain: `head` is the digest to note elsewhere (on paper, in a
ticket) if that must show, too. No line holds a key.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Literal

import rfc8785
from pydantic import Field, ValidationError

from chiron.client.configuration import refuse_exposed
from chiron.client.errors import HistoryAltered
from chiron.client.locking import lock
from chiron.client.store import OwnerStore, read_private, write_private
from chiron.wire.encoding import Digest, Identifier, WireModel, canonical_json, sha256_hex
from chiron.wire.grants import Grant

FIRST = "0" * 64
"""What stands in the first line in place of an earlier one's digest."""


class Deed(StrEnum):
    """What the owner's side did."""

    CREATED = "created"
    VERIFIED = "verified"
    GRANTED = "granted"
    GRANTED_AGAIN = "granted-again"
    """Its parameter server was started again, was verified, and sent the same grant."""
    REFUSED = "refused"
    """An enclave waited to be opened, and nothing was sent."""
    OPENED = "opened"
    SHARED = "shared"
    REVOKED = "revoked"
    PREDICTED = "predicted"
    SETTLED = "settled"
    CAUGHT_UP = "caught-up"
    """A predictor attested an opening that the ledger did not know: the store was set back to a copy."""
    CANCELLED = "cancelled"
    MOVED = "moved"
    FORGOT = "forgot"
    DATASET_FORGOTTEN = "dataset-forgotten"
    """The key of the data that it learnt from was destroyed."""
    DELETED = "deleted"
    """The gateway said that it has deleted what it held."""


class Entry(WireModel):
    """One line."""

    version: Literal[1] = 1
    number: int = Field(ge=1)
    job: Identifier
    at: str = Field(max_length=40)
    """RFC 3339, UTC, by the owner's clock."""
    did: Deed
    facts: dict[str, str | int] = Field(default={}, max_length=32)
    """Digests, counts and names; never a key."""
    previous: Digest
    """SHA-256 of the line before."""


class Head(WireModel):
    """How far a history goes: kept beside it, so that one which is cut off at its end shows."""

    version: Literal[1] = 1
    number: int = Field(ge=1)
    line_sha256: Digest


class History:
    """One job's file, `history/JOB.jsonl` in the owner's store, and `history/JOB.head` beside it."""

    def __init__(self, store: OwnerStore, job: Identifier) -> None:
        self._store = store
        self._job = job
        self.path: Path = store.root / "history" / f"{job}.jsonl"
        self._head: Path = self.path.with_suffix(".head")

    def append(
        self,
        did: Deed,
        facts: dict[str, str | int] | None = None,
        at: datetime | None = None,
        *,
        once: bool = False,
    ) -> Entry | None:
        """Add a line and sync it to the disk before returning. Processes that append at once wait in turn.

        With `once`, nothing is added and None returned where a line says this already, whenever it was. The
        line follows from the last one that was written: if that is gone, the gap stays to be seen.
        """
        self._store.directory("history")
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            lock(file.fileno())
            lines = _whole_lines(file)
            if once and any(_says(line, did, facts or {}) for line in lines):
                return None
            head = self._last(lines)
            entry = Entry(
                number=head.number + 1 if head is not None else 1,
                job=self._job,
                at=(at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
                did=did,
                facts=facts or {},
                previous=head.line_sha256 if head is not None else FIRST,
            )
            line = canonical_json(entry)
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
            head = Head(number=entry.number, line_sha256=sha256_hex(line))
            # After the line: a crash in between leaves one line more than the head tells of.
            write_private(self._head, head.model_dump_json().encode())
        return entry

    def entries(self) -> Sequence[Entry]:
        """All lines, after their chain was checked; none where nothing was written.

        Raises:
            HistoryAltered: a line was changed, removed or put in since.
            RecordUnusable: others can read the files.
        """
        return [entry for entry, _ in self._checked()]

    def head(self) -> Digest:
        """Digest of the last line: who notes it elsewhere notices a history that was written anew.

        Raises:
            HistoryAltered, RecordUnusable: as `entries`.
        """
        checked = self._checked()
        return sha256_hex(checked[-1][1]) if checked else FIRST

    def _checked(self) -> list[tuple[Entry, bytes]]:
        # The head first: lines that are added meanwhile are more than it tells of, which is no fault.
        head, lines = self._kept_head(), self._lines()
        previous, found = FIRST, []
        for number, line in enumerate(lines, start=1):
            entry = self._parsed(line, number)
            if (entry.number, entry.job, entry.previous) != (number, self._job, previous):
                raise self._altered(number)
            previous = sha256_hex(line)
            found.append((entry, line))
        if head is None and len(lines) > 1:
            raise self._cut(f"{self._head} is gone, which says how many lines there are")
        if head is not None and not _reaches(lines, head):
            raise self._cut(f"{head.number} lines were written")
        return found

    def _lines(self) -> list[bytes]:
        """Whole ones: what a crash cut short was acknowledged to nobody."""
        if not self.path.exists():
            return []
        refuse_exposed(self.path)
        content = self.path.read_bytes()
        return content[: content.rfind(b"\n") + 1].splitlines()

    def _last(self, lines: list[bytes]) -> Head | None:
        """The last line that was written, whether or not it still is here."""
        head = self._kept_head()
        if lines and (head is None or _reaches(lines, head)):
            return Head(number=len(lines), line_sha256=sha256_hex(lines[-1]))
        return head

    def _kept_head(self) -> Head | None:
        return read_private(self._head, Head) if self._head.exists() else None

    def _parsed(self, line: bytes, number: int) -> Entry:
        try:
            entry = Entry.model_validate_json(line)
        except ValidationError:
            raise self._altered(number) from None
        if canonical_json(entry) != line:
            raise self._altered(number)
        return entry

    def _altered(self, number: int) -> HistoryAltered:
        return HistoryAltered(
            f"line {number} of {self.path} does not follow from the one before: somebody changed the file. "
            "Compare it with a backup; nothing in it from there on is evidence"
        )

    def _cut(self, reason: str) -> HistoryAltered:
        return HistoryAltered(
            f"{self.path} was cut off at its end, or set back: {reason}. Compare it with a backup"
        )


def note(store: OwnerStore, job: Identifier, did: Deed, **facts: str | int) -> None:
    """Write into the job's history what was done just now."""
    History(store, job).append(did, facts)


def note_once(store: OwnerStore, job: Identifier, did: Deed, **facts: str | int) -> None:
    """Write into the job's history what was done, unless it says so already: what may be repeated."""
    History(store, job).append(did, facts, once=True)


def grant_digest(grant: Grant) -> Digest:
    """SHA-256 of a grant without its secrets, in canonical JSON: what a history and a receipt name it by."""
    public = grant.model_dump(mode="json", exclude={"dataset_key", "share"})
    return sha256_hex(rfc8785.dumps(public))


def _whole_lines(file: BinaryIO) -> list[bytes]:
    """The lines so far. One that a crash cut short was acknowledged to nobody, and is dropped."""
    file.seek(0)
    content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) != len(content):
        file.truncate(len(whole))
    return whole.splitlines()


def _reaches(lines: list[bytes], head: Head) -> bool:
    """Whether the lines have that one in its place. More may follow it."""
    return len(lines) >= head.number and sha256_hex(lines[head.number - 1]) == head.line_sha256


def _says(line: bytes, did: Deed, facts: dict[str, str | int]) -> bool:
    try:
        entry = Entry.model_validate_json(line)
    except ValidationError:
        return False
    return entry.did is did and entry.facts == facts
