"""Forgetting a job or a dataset: the owner's keys are destroyed first, then the gateway is asked to delete.

What the host kept opens with the owner's share or key only. Once they are gone nobody opens it, whether or
not the gateway deletes what it says it does. The order survives a crash at any place:

1. A tombstone says what is being forgotten. The id stays known, so no gateway can pass it off as a new job.
2. The files with the keys are overwritten and removed: a dataset's record, and a job's `keys/JOB.json`. Each
   was written once, in one place, so no older copy of it was ever freed. Then goes what else there is.
3. The gateway ends what runs, and deletes. The tombstone says when it did; until then, repeating goes on.

Overwriting is what a program can do. It reaches the bytes where a file system writes in place (ext4 and XFS
as they come, NTFS) on a magnetic disk. One that copies on write (btrfs, ZFS, APFS) or journals data, a
snapshot, a backup or an SSD's spare blocks may keep them: keep the store on an encrypted disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field

from chiron.client.errors import DatasetInUse, GatewayError, RecordMissing
from chiron.client.gateway_session import GatewaySession
from chiron.client.history import Deed, note_once
from chiron.client.store import OwnerStore, read_private, shred, write_private
from chiron.wire import codes, paths
from chiron.wire.encoding import Identifier, WireModel


class Kind(StrEnum):
    """What can be forgotten; the store's folder of its records."""

    JOB = "jobs"
    DATASET = "datasets"


class Tombstone(WireModel):
    """What is left of a forgotten record."""

    version: Literal[1] = 1
    kind: Kind
    id: Identifier
    forgotten_at: str = Field(max_length=40)
    """RFC 3339, UTC."""
    deleted_at: str | None = Field(default=None, max_length=40)
    """When the gateway said that it has deleted what it held; None until then."""


def tombstone(store: OwnerStore, kind: Kind, name: Identifier) -> Tombstone | None:
    """The tombstone of a forgotten job or dataset, if it is one.

    Raises:
        RecordUnusable: it cannot be trusted.
    """
    path = _place(store, kind, name)
    return read_private(path, Tombstone) if path.exists() else None


def tombstones(store: OwnerStore, kind: Kind) -> list[Tombstone]:
    """All of a kind.

    Raises:
        RecordUnusable: one cannot be trusted.
    """
    found = sorted((store.root / "forgotten").glob(f"{kind}-*.json"))
    return [read_private(path, Tombstone) for path in found]


def destroy(store: OwnerStore, kind: Kind, name: Identifier) -> Tombstone:
    """Destroy the owner's keys of a job or dataset; needs no gateway, and may be repeated.

    Raises:
        RecordMissing: neither a record nor a tombstone is here.
        DatasetInUse: a job that has not ended, by our own records, reads the dataset.
    """
    stone = tombstone(store, kind, name)
    if stone is None and not store.files_of(kind, name):
        raise RecordMissing(f"this machine's store has no record of {name} ({store.root / kind})")
    readers = _readers(store, name) if kind is Kind.DATASET else []
    for job, ended in readers:
        if stone is None and not ended:
            raise DatasetInUse(
                f"job {job} of yours may read this dataset still: wait for its end, "
                f"`chiron job cancel {job[:8]}`, or `chiron job forget {job[:8]}`"
            )
    if stone is None:
        stone = Tombstone(kind=kind, id=name, forgotten_at=_now())
        _write(store, stone)
    # Listed after the tombstone: what a process saved before it saw that is here, and none saves later.
    for path in store.files_of(kind, name):
        shred(path)
    # Once, though a crash may have come before: whoever repeats this completes it.
    if kind is Kind.JOB:
        note_once(store, name, Deed.FORGOT)
    for job, _ in readers:
        note_once(store, job, Deed.DATASET_FORGOTTEN, dataset=name)
    return stone


async def delete_at_gateway(gateway: GatewaySession, store: OwnerStore, stone: Tombstone) -> Tombstone:
    """End what runs of it, and have the gateway delete it; one that knows of none has done so already.

    Raises:
        GatewayError: it refuses, or cannot be reached: repeat.
    """
    if stone.kind is Kind.JOB:
        with _accepting("job-ended", "job-unknown"):
            await gateway.cancel(stone.id)
        with _accepting(codes.ENCLAVE_NOT_RUNNING, "job-unknown"):
            await gateway.stop_predictor(stone.id)
        with _accepting("job-unknown"):
            await gateway.delete(paths.JOB.of(stone.id))
        note_once(store, stone.id, Deed.DELETED)
    else:
        with _accepting("dataset-unknown"):
            await gateway.delete(paths.DATASET.of(stone.id))
    done = stone.model_copy(update={"deleted_at": _now()})
    _write(store, done)
    return done


@contextmanager
def _accepting(*codes_of_done: str) -> Iterator[None]:
    """A block whose refusal by the gateway with one of these codes is as good as success."""
    try:
        yield
    except GatewayError as error:
        if error.code not in codes_of_done:
            raise


def _readers(store: OwnerStore, dataset: Identifier) -> list[tuple[Identifier, bool]]:
    """Our jobs that learn or learnt from a dataset, and whether each has ended."""
    jobs = [store.job(job) for job in store.job_ids()]
    return [(job.spec.job, job.ended) for job in jobs if job.spec.dataset.dataset_id == dataset]


def _place(store: OwnerStore, kind: Kind, name: Identifier) -> Path:
    return store.tombstone_path(kind, name)


def _write(store: OwnerStore, stone: Tombstone) -> None:
    store.directory("forgotten")
    write_private(_place(store, stone.kind, stone.id), stone.model_dump_json(indent=1).encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
