"""The passes of a job as their owner keeps them: every one that was given away, revoked ones too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from chiron.client.errors import ConfigurationInvalid, RecordMissing
from chiron.client.locking import lock
from chiron.client.store import OwnerStore, read_private, write_private
from chiron.wire.apikeys import KeyId
from chiron.wire.encoding import Identifier, WireModel
from chiron.wire.opening import Pass, Settlement, Time

MAX_ISSUED = 4096
"""Passes of one job that the owner's store remembers."""


class IssuedPass(WireModel):
    """A pass as its owner remembers it."""

    allowed: Pass
    issued_at: Time
    guest: KeyId | None = None
    """Id of the API key that the gateway made for its holder."""
    revoked_at: Time | None = None

    def holds(self, now: int) -> bool:
        """Whether it may be asked under."""
        return self.revoked_at is None and now < self.allowed.until


class IssuedPasses(WireModel):
    """A record of all passes of one job, oldest first."""

    job: Identifier
    passes: tuple[IssuedPass, ...] = Field(default=(), max_length=MAX_ISSUED)

    def holding(self, now: int) -> tuple[Pass, ...]:
        """The passes that may be asked under: those that an opening names."""
        return tuple(issued.allowed for issued in self.passes if issued.holds(now))


class PassBook:
    """The records of issued passes in an owner's store, one a job."""

    def __init__(self, store: OwnerStore) -> None:
        self._store = store

    def read(self, job: Identifier) -> IssuedPasses:
        """All passes of the job that were given away on this machine.

        Raises:
            RecordUnusable: the record cannot be trusted.
        """
        path = self._store.directory("passes") / f"{job}.json"
        return read_private(path, IssuedPasses) if path.exists() else IssuedPasses(job=job)

    def add(self, issued: IssuedPass) -> None:
        """Remember a pass, before it is given away.

        Raises:
            ConfigurationInvalid: the job has as many as can be remembered.
        """
        job = issued.allowed.job
        with self._alone(job) as path:
            before = self.read(job)
            if len(before.passes) >= MAX_ISSUED:
                raise ConfigurationInvalid(f"a job has at most {MAX_ISSUED} passes, revoked ones included")
            self._write(path, (*before.passes, issued), job)

    def revoke(self, job: Identifier, pass_id: str, at: int) -> IssuedPass:
        """Write down that a pass holds no longer, and return it; nothing happens if it is so already.

        Raises:
            RecordMissing: no pass of the job, or more than one, has this id or beginning of one.
        """
        with self._alone(job) as path:
            before = self.read(job)
            found = find_issued(before, pass_id)
            revoked = found.model_copy(update={"revoked_at": found.revoked_at or at})
            self._write(path, tuple(revoked if one is found else one for one in before.passes), job)
        return revoked

    def keep_only(self, said: Settlement, at: int) -> None:
        """Revoke what was revoked already: passes that an opening which this store has forgotten left out.

        Those that were made later than that opening stay: its number is its time, in milliseconds.
        """
        named = {one.id for one in said.passes}
        with self._alone(said.job) as path:
            before = self.read(said.job)
            kept = [
                one.model_copy(update={"revoked_at": at})
                if one.holds(at) and one.issued_at < said.opening // 1000 and one.allowed.id not in named
                else one
                for one in before.passes
            ]
            self._write(path, tuple(kept), said.job)

    @contextmanager
    def _alone(self, job: Identifier) -> Iterator[Path]:
        """The record's place, where nobody else writes meanwhile: of two shared at once, none is lost."""
        directory = self._store.directory("passes")
        held = os.open(directory / f"{job}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            lock(held)
            yield directory / f"{job}.json"
        finally:
            os.close(held)

    def _write(self, path: Path, passes: tuple[IssuedPass, ...], job: Identifier) -> None:
        record = IssuedPasses(job=job, passes=passes)
        write_private(path, record.model_dump_json(indent=1).encode())


def find_issued(record: IssuedPasses, pass_id: str) -> IssuedPass:
    """The pass of this id, or beginning of an id.

    Raises:
        RecordMissing: no pass of the job, or more than one, is called so.
    """
    found = [issued for issued in record.passes if issued.allowed.id.startswith(pass_id)]
    if len(found) != 1 or not pass_id:
        raise RecordMissing(
            f"{len(found) or 'no'} passes of this job begin with {pass_id!r}: `chiron share list` shows them"
        )
    return found[0]
