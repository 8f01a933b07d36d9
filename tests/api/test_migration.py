"""A gateway takes over what one of the first schema left: `first_schema.sql` is what one at 4048b05 wrote.

It had run one job to its end, with a predictor; had cancelled one; and was killed while a third was training.
"""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chiron.api.builders import builder_blob
from chiron.api.datasets import dataset_blobs
from chiron.api.keys import TenantRole
from chiron.api.server import RunningGateway, running_gateway
from chiron.api.settings import Settings
from chiron.api.storage.tables import SCHEMA_VERSION
from chiron.wire.attestation import Role
from chiron.wire.objects import all_bytes
from tests.support.caller import CHUNKS, Caller
from tests.support.scripts import scripted, silent

DUMP = Path(__file__).with_name("first_schema.sql")
OWNER = "chiron_d78fa8d39759bf33_i-NajioMvOfpAdqcoqakUQF3TnJ7CmGlEau9kezNfHU"
OPERATOR = "chiron_1cf68e9409023748_61acs3IhycwY56YTtMWlwZu_GDHHN_G1_WlPp8MxCy0"
SUCCEEDED, CANCELLED, TRAINING = (
    "d72bddd0844ffb4a5039670a4ddc7122",
    "4c1cca099f12e59b1c49129187982f4a",
    "6fb17c1b21995f5d241c9565aeee0c19",
)
BUILDER = "1dd0456ea614e44a3b8bdd1e24d919ab5a4d603c8068c5c81f8289d44979093f"


@dataclass
class World:
    """A gateway of today over what is left, and whose keys are of then."""

    running: RunningGateway
    owner: Caller
    operator: Caller


def left_over(settings: Settings) -> Path:
    """The database and blobs of then."""
    path = settings.state_dir / "gateway.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.executescript(DUMP.read_text())
        # A job has a day.
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        connection.execute("UPDATE jobs SET created_at = ? WHERE id = ?", (now, TRAINING))
    connection.close()
    blobs = {builder_blob(BUILDER): bytes(802)}
    for tenant, dataset, chunks in (("hospital", "ab" * 16, CHUNKS), ("rival", "cd" * 16, CHUNKS[:2])):
        blobs |= {f"{dataset_blobs(tenant, dataset)}/{number}": chunk for number, chunk in enumerate(chunks)}
    with sqlite3.connect(path) as connection:
        blobs |= {blob: bytes(size) for blob, size in connection.execute("SELECT blob, size FROM objects")}
    connection.close()
    for name, content in blobs.items():
        place = settings.blob_dir / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return path


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    left_over(settings)
    launcher = scripted(settings.socket_path, dict.fromkeys(Role, silent))
    async with aiohttp.ClientSession() as session, running_gateway(settings, launcher) as running:
        assert running.first_keys is None
        yield World(running, Caller(session, running.url, OWNER), Caller(session, running.url, OPERATOR))


async def test_keys_jobs_and_their_journals_are_as_they_were(world: World) -> None:
    jobs = (await world.owner("GET", "/v1/jobs")).json["items"]
    assert {job["spec"]["job"]: job["state"] for job in jobs} == {
        SUCCEEDED: "succeeded",
        CANCELLED: "cancelled",
        TRAINING: "training",
    }
    assert not any(job["awaiting_owner"] for job in jobs)
    events = (await world.owner("GET", f"/v1/jobs/{SUCCEEDED}/events")).raw.decode()
    assert events.count("event: job") == 8
    objects = (await world.owner("GET", f"/v1/jobs/{SUCCEEDED}/objects")).json["items"]
    assert {one["name"]: one["size"] for one in objects}["model"] == 5000
    assert (await world.owner("GET", f"/v1/jobs/{SUCCEEDED}/objects/model")).status == 200
    seen = (await world.owner("GET", f"/v1/jobs/{SUCCEEDED}/observations")).json["items"]
    assert [one["kind"] for one in seen][:2] == ["builder", "dataset-manifest"]
    assert seen[0]["size"] == 802


async def test_what_ran_when_it_was_killed_goes_on(world: World) -> None:
    fleet = world.running.gateway.fleet
    assert fleet.find(TRAINING, Role.PARAMETER_SERVER) is not None
    assert fleet.find(SUCCEEDED, Role.PREDICTOR) is not None
    assert fleet.find(CANCELLED, Role.PARAMETER_SERVER) is None


async def test_datasets_are_as_they_were_and_counted(world: World) -> None:
    (dataset,) = (await world.owner("GET", "/v1/datasets")).json["items"]
    assert (dataset["chunks"], dataset["received"], dataset["complete"]) == (4, 4, True)


async def test_builders_are_published_by_whom_they_were_and_by_others_too(
    world: World, component: bytes
) -> None:
    (builder,) = (await world.owner("GET", "/v1/builders")).json["items"]
    assert (builder["publisher"], builder["sha256"]) == ("op", BUILDER)
    assert (await world.operator("DELETE", f"/v1/builders/{BUILDER}")).code == "builder-in-use"
    key = await world.running.gateway.keys.create("other", TenantRole.OPERATOR)
    other = Caller(world.owner.session, world.owner.url, key)
    assert (await other.upload_builder(component)).status == 201
    assert len((await world.owner("GET", "/v1/builders")).json["items"]) == 2


async def test_what_is_stored_counts_for_its_tenant(world: World) -> None:
    gateway = world.running.gateway
    jobs = [await gateway.records.get(job, "hospital") for job in (SUCCEEDED, TRAINING)]
    room = sum(all_bytes(job.spec) for job in jobs)
    used = await gateway.storage.used("hospital")
    assert room + len(CHUNKS) * 1000 < used < room + 20_000
    assert 2000 < await gateway.storage.used("rival") < 3000
    assert await gateway.storage.used("op") == 802


async def test_what_is_new_works_on_what_is_old(world: World) -> None:
    until = {"expires_at": int(datetime.now(UTC).timestamp()) + 60}
    assert (await world.owner("POST", f"/v1/jobs/{SUCCEEDED}/guests", json=until)).status == 201
    assert (await world.owner("POST", f"/v1/jobs/{TRAINING}/cancel")).status == 200
    assert (await world.owner("DELETE", f"/v1/jobs/{CANCELLED}")).status == 204
    assert (await world.owner("DELETE", f"/v1/jobs/{SUCCEEDED}/predictor")).status == 200
    assert (await world.owner("DELETE", f"/v1/jobs/{SUCCEEDED}")).status == 204


async def test_it_ends_with_the_tables_of_a_new_database_however_often_it_is_interrupted(
    settings: Settings, tmp_path: Path
) -> None:
    fresh = settings.model_copy(update={"state_dir": tmp_path / "new"})
    async with running_gateway(fresh, scripted(fresh.socket_path)):
        pass
    path = left_over(settings)
    for version in (None, 1, 1):
        if version is not None:
            # As if it had stopped before its last step.
            with sqlite3.connect(path) as connection:
                connection.execute("UPDATE schema SET version = ?", (version,))
            connection.close()
        async with running_gateway(settings, scripted(settings.socket_path, dict.fromkeys(Role, silent))):
            pass
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM publications").fetchall() == [(1,)]
            assert connection.execute("SELECT version FROM schema").fetchall() == [(SCHEMA_VERSION,)]
        connection.close()
    ours, theirs = _shape(path), _shape(fresh.state_dir / "gateway.sqlite3")
    # What is not used any more stays.
    assert ours.pop("builders")
    assert ours == theirs


def _shape(path: Path) -> dict[str, Any]:
    """Columns and indexes of every table."""
    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        found = {
            table: (
                {
                    (name, kind, key)
                    for _, name, kind, _, _, key in connection.execute(f"PRAGMA table_info({table})")
                },
                {row[1] for row in connection.execute(f"PRAGMA index_list({table})")},
            )
            for table in tables
        }
    connection.close()
    return found
