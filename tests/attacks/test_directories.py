"""Directories of secrets that other users of the machine can open, or have made: closed, or refused."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from chiron import OwnerStore
from chiron.api.keys import TenantRole, opened_keys
from chiron.api.server import running_gateway
from chiron.client.errors import RecordUnusable
from chiron.client.store import JobRecord
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.private import DirectoryNotOurs, private_directory
from tests.support.party import party, settings_in
from tests.support.scripts import scripted
from tests.support.specs import job_spec

ANOTHER_USER = 4711
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("open_to", [0o755, 0o777, 0o770, 0o701])
async def test_attack_state_directory_that_others_can_open_is_closed(tmp_path: Path, open_to: int) -> None:
    state = tmp_path / "s"
    state.mkdir()
    state.chmod(open_to)
    settings = settings_in(state)
    async for _ in party(settings, scripted(settings.socket_path)):
        assert mode(state) == 0o700


def test_attack_state_directory_is_closed_before_keys_are_made_in_it(tmp_path: Path) -> None:
    async def make_a_key() -> None:
        async with opened_keys(settings_in(tmp_path)) as keys:
            await keys.create("lab", TenantRole.OWNER)

    tmp_path.chmod(0o755)
    asyncio.run(make_a_key())
    assert mode(tmp_path) == 0o700


@pytest.mark.parametrize("name", ["gateway.sqlite3", "gateway.lock", "blobs", "tee", "image", "anything"])
async def test_attack_links_planted_in_an_open_state_directory_lead_nothing_of_ours_elsewhere(
    tmp_path: Path, name: str
) -> None:
    state, elsewhere = tmp_path / "s", tmp_path / "theirs"
    state.mkdir()
    elsewhere.mkdir()
    state.chmod(0o777)
    (state / name).symlink_to(elsewhere / "x" if "." in name else elsewhere)
    settings = settings_in(state)
    with pytest.raises(DirectoryNotOurs, match=name):
        async with running_gateway(settings, scripted(settings.socket_path)):
            pytest.fail("it started")
    with pytest.raises(DirectoryNotOurs, match=name):
        async with opened_keys(settings):
            pytest.fail("it made a key")
    assert list(elsewhere.iterdir()) == []


@as_root
async def test_attack_a_database_of_another_user_in_an_open_state_directory_is_not_taken(
    tmp_path: Path,
) -> None:
    """It holds keys of theirs, and stays open for them to write."""
    settings = settings_in(tmp_path)
    async with running_gateway(settings, scripted(settings.socket_path)):
        pass
    os.chown(tmp_path / "gateway.sqlite3", ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(DirectoryNotOurs, match="another user"):
        async with running_gateway(settings, scripted(settings.socket_path)):
            pytest.fail("it started")


@as_root
def test_attack_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)

    async def start() -> None:
        async with running_gateway(settings, scripted(settings.socket_path)):
            pytest.fail("it started")

    os.chown(tmp_path, ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(DirectoryNotOurs) as refused:
        asyncio.run(start())
    assert refused.value.code == "directory-not-ours"
    assert list(tmp_path.iterdir()) == []


def record() -> JobRecord:
    return JobRecord(spec=job_spec(), owner_key=PrivateKey.generate().private_bytes, share=bytes(32))


def test_attack_store_that_others_can_open_is_closed(tmp_path: Path) -> None:
    root = tmp_path / "home"
    (root / "jobs").mkdir(parents=True)
    for directory in (root, root / "jobs"):
        directory.chmod(0o777)
    OwnerStore(root).save_job(record())
    assert mode(root) == mode(root / "jobs") == 0o700


@as_root
def test_attack_record_that_another_user_planted_is_refused(tmp_path: Path) -> None:
    store = OwnerStore(tmp_path / "home")
    planted = store.save_job(record())
    os.chown(planted, ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(RecordUnusable):
        store.job(job_spec().job)


@as_root
def test_attack_store_of_another_user_takes_no_key_of_ours(tmp_path: Path) -> None:
    root = tmp_path / "home"
    root.mkdir()
    os.chown(root, ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(DirectoryNotOurs):
        OwnerStore(root).save_job(record())


def test_attack_link_where_the_directory_should_be_leads_to_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="exists"):
        private_directory(tmp_path / "link")
