"""What the owner's side did: written down line by line as it happens, and never changed.

One file a job in the owner's store, `history/<job>.jsonl`, mode 0600. It holds no key.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import Field, ValidationError

from chiron.client.configuration import refuse_exposed
from chiron.client.errors import RecordUnusable
from chiron.client.store import OwnerStore
from chiron.wire.encoding import Digest, Identifier, WireModel


class Act(StrEnum):
    """What was done."""

    GRANTED = "granted"
    GRANTED_AGAIN = "granted-again"
    """Its parameter server was started again, and sent the same grant."""
    OPENED = "opened"
    """A predictor."""
    REFUSED = "refused"
    """Nothing was sent: `reason` says why."""


class Entry(WireModel):
    """One line."""

    at: str = Field(max_length=40)
    """RFC 3339, UTC, by the owner's clock."""
    job: Identifier
    act: Act
    measurement: Digest | None = None
    """Of the enclave that it was done to."""
    evidence_sha256: Digest | None = None
    """Digest of the report data in the evidence that was verified: of its keys and our fresh nonce."""
    reason: str = Field(max_length=400)


def append(
    store: OwnerStore,
    job: str,
    act: Act,
    reason: str,
    *,
    measurement: str | None = None,
    evidence_sha256: str | None = None,
    at: datetime | None = None,
) -> Entry:
    """Write one entry down. Several processes may: each line is written at once, at the end."""
    entry = Entry(
        at=(at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        job=job,
        act=act,
        measurement=measurement,
        evidence_sha256=evidence_sha256,
        reason=reason[:400],
    )
    path = store.directory("history") / f"{job}.jsonl"
    line = entry.model_dump_json(exclude_none=True).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return entry


def entries(store: OwnerStore, job: str) -> Iterator[Entry]:
    """A job's entries, the oldest first.

    Raises:
        RecordUnusable: others can read the file, or a line of it is malformed.
    """
    path = store.root / "history" / f"{job}.jsonl"
    if not path.exists():
        return
    refuse_exposed(path)
    for line in path.read_bytes().splitlines():
        try:
            yield Entry.model_validate_json(line)
        except ValidationError:
            raise RecordUnusable(f"{path} is not a history of this version") from None
