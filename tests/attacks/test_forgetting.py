"""Attacks on what was forgotten: no host opens it afterwards, whatever it kept and whatever it claims."""

import os
import secrets
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from chiron import AsyncClient, OwnerStore
from chiron.client.datasets import ArraySource, encrypt
from chiron.client.errors import GatewayError, RecordMissing
from chiron.client.forgetting import Kind, destroy, tombstone
from chiron.client.history import History
from chiron.client.store import JobRecord, write_private
from chiron.runtime.errors import OpenFailed
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.labels import MODEL
from tests.support.party import Party
from tests.support.specs import job_spec
from tests.support.tee import DirectPlatform, open_tee

JOB = job_spec().job


def kept(store: OwnerStore) -> JobRecord:
    """A job that the owner's store has a record of."""
    record = JobRecord(
        spec=job_spec(), owner_key=PrivateKey.generate().private_bytes, share=secrets.token_bytes(32)
    )
    store.save_job(record)
    return record


def everything(store: OwnerStore) -> bytes:
    return b"".join(path.read_bytes() for path in store.root.rglob("*") if path.is_file())


def test_nothing_in_the_store_opens_a_forgotten_job(tmp_path: Path) -> None:
    store = OwnerStore(tmp_path)
    record = kept(store)
    # What a crash while the record was written would have left.
    (tmp_path / "jobs" / f".{JOB}.json.abcd").write_bytes(record.model_dump_json().encode())
    destroy(store, Kind.JOB, JOB)
    left = everything(store)
    for secret in (record.share, record.owner_key):
        assert secret not in left
        assert b64encode(secret) not in left
    assert [entry.did for entry in History(store, JOB).entries()] == ["forgot"]


def test_the_processor_alone_opens_no_forgotten_model(tmp_path: Path) -> None:
    store = OwnerStore(tmp_path / "owner")
    record = kept(store)
    platform = DirectPlatform(open_tee(tmp_path / "tee"))
    sealed = Sealer(platform, MODEL, record.share).seal(b"weights", size=64, context=b"job")
    destroy(store, Kind.JOB, JOB)
    for share in (None, bytes(32), secrets.token_bytes(32)):
        with pytest.raises(OpenFailed):
            Sealer(platform, MODEL, share).open(sealed, context=b"job")


def test_a_crash_between_tombstone_and_keys_is_completed(tmp_path: Path) -> None:
    store = OwnerStore(tmp_path)
    record = kept(store)
    destroy(store, Kind.JOB, JOB)
    # As if the process had ended before the record was gone.
    write_private(tmp_path / "jobs" / f"{JOB}.json", record.model_dump_json().encode())
    assert tombstone(store, Kind.JOB, JOB) is not None
    destroy(store, Kind.JOB, JOB)
    assert b64encode(record.share) not in everything(store)
    with pytest.raises(RecordMissing):
        store.job(JOB)


def test_no_version_of_a_record_that_the_disk_may_still_hold_has_its_keys(tmp_path: Path) -> None:
    """Links stand for what a file system frees when a file is replaced, and does not overwrite."""
    store, freed = OwnerStore(tmp_path / "store"), tmp_path / "freed"
    freed.mkdir()

    def remember() -> None:
        for path in store.root.rglob("*.json"):
            (freed / secrets.token_hex(8)).hardlink_to(path)

    record = kept(store)
    remember()
    for ended in (False, True):
        store.save_job(record.model_copy(update={"ended": ended, "class_names": ("a", str(ended))}))
        remember()
    assert store.job(JOB).share == record.share
    destroy(store, Kind.JOB, JOB)
    left = b"".join(path.read_bytes() for path in freed.iterdir())
    for secret in (record.share, record.owner_key):
        assert b64encode(secret) not in left


@pytest.mark.parametrize("killed_at", range(1, 9))
def test_a_process_that_is_killed_at_any_write_while_it_forgets_is_completed_by_the_next(
    tmp_path: Path, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = OwnerStore(tmp_path)
    record = kept(store)
    child = os.fork()
    if child == 0:
        _dying_at_sync(killed_at, monkeypatch)
        destroy(store, Kind.JOB, JOB)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    # The eighth of seven is none.
    assert os.waitstatus_to_exitcode(status) == (9 if killed_at < 8 else 0)
    destroy(store, Kind.JOB, JOB)
    assert b64encode(record.share) not in everything(store)
    assert [entry.did for entry in History(store, JOB).entries()] == ["forgot"]


def _dying_at_sync(count: int, dies: pytest.MonkeyPatch) -> None:
    """Have this process end at that sync of a file, without a word."""
    sync, left = os.fsync, [count]

    def dying(descriptor: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)
        sync(descriptor)

    dies.setattr(os, "fsync", dying)


def test_a_process_that_still_holds_the_record_does_not_bring_its_keys_back(tmp_path: Path) -> None:
    store = OwnerStore(tmp_path)
    record = kept(store)
    destroy(store, Kind.JOB, JOB)
    # As `chiron train` does, which read the record before and follows the job.
    with pytest.raises(RecordMissing, match="forgotten"):
        store.save_job(record.model_copy(update={"ended": True}))
    assert b64encode(record.share) not in everything(store)


async def test_a_gateway_that_refuses_to_delete_changes_nothing_of_the_keys(tmp_path: Path) -> None:
    store = OwnerStore(tmp_path)
    record = kept(store)
    async with AsyncClient("http://127.0.0.1:1", "chiron_x", store=store) as client:
        with pytest.raises(GatewayError):
            await client.forget_job(JOB)
    assert b64encode(record.share) not in everything(store)
    stone = tombstone(store, Kind.JOB, JOB)
    assert stone is not None
    assert stone.deleted_at is None


async def test_a_dataset_is_forgotten_here_and_deleted_there(tmp_path: Path, world: Party) -> None:
    store = OwnerStore(tmp_path / "owner")
    made = encrypt(ArraySource([[0.5], [1.5]], ["a", "b"]), tmp_path / "bundle", store)
    key = world.owner.headers["Authorization"].removeprefix("Bearer ")
    async with AsyncClient(world.running.url, key, store=store) as client:
        name = await client.upload_dataset(tmp_path / "bundle")
        stone = await client.forget_dataset(name)
        assert stone.deleted_at is not None
        # Repeating is fine, and tells of no other.
        assert (await client.forget_dataset(name)).id == name
    assert b64encode(made.record.key) not in everything(store)
    assert (await world.owner("GET", f"/v1/datasets/{name}")).code == "dataset-unknown"
