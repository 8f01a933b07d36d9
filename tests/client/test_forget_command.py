"""`chiron job forget`, `data forget`, `job history`: nothing is destroyed unasked; half-done is completed."""

import asyncio
import json
from dataclasses import dataclass

import pytest

from chiron.cli.application import main
from chiron.client.configuration import HOME_VARIABLE, KEY_VARIABLE, URL_VARIABLE
from chiron.client.forgetting import Kind, tombstone
from tests.support.owners_world import World, software_tee, world

__all__ = ["software_tee", "world"]
AWAY = "http://127.0.0.1:9"


@dataclass
class Told:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def at_home(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv(HOME_VARIABLE, str(world.store.root))
    monkeypatch.setenv(URL_VARIABLE, world.running.url)
    monkeypatch.setenv(KEY_VARIABLE, world.owner_key)
    monkeypatch.chdir(world.directory)
    return world


async def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Told:
    code = await asyncio.to_thread(main, arguments)
    told = capsys.readouterr()
    return Told(code, told.out, " ".join(told.err.split()))


async def waiting_job(world: World) -> tuple[str, str]:
    """A job that awaits its grant, and its dataset."""
    async with world.client() as client:
        dataset = await client.upload_dataset(world.encrypt().bundle)
        return (await client.create_job(world.request(dataset))).spec.job, dataset


async def test_without_confirmation_nothing_is_destroyed(
    at_home: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, dataset = await waiting_job(at_home)
    for answer in ("", "y", "00000000"):
        monkeypatch.setattr("typer.prompt", lambda *_, answer=answer, **__: answer)
        assert (await said(capsys, "job", "forget", job)).code != 0
        assert (await said(capsys, "data", "forget", dataset)).code != 0
    assert at_home.store.knows_job(job)
    assert at_home.store.dataset(dataset)
    assert tombstone(at_home.store, Kind.JOB, job) is None


async def test_confirmed_the_keys_are_gone_and_the_gateway_knows_no_such_job(
    at_home: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = await waiting_job(at_home)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: job[:8])
    told = await said(capsys, "job", "forget", job[:6])
    assert told.code == 0, told.err
    assert not at_home.store.knows_job(job)
    async with at_home.client() as client:
        assert await client.jobs() == []
    history = json.loads((await said(capsys, "job", "history", job, "--json")).out)
    assert [entry["did"] for entry in history["entries"]] == ["created", "forgot", "deleted"]
    assert history["attested"] == []
    assert "deleted" in (await said(capsys, "job", "history", job)).out


async def test_with_the_gateway_away_the_keys_are_destroyed_and_later_the_rest_is_done(
    at_home: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = await waiting_job(at_home)
    monkeypatch.setenv(URL_VARIABLE, AWAY)
    told = await said(capsys, "job", "forget", job, "--yes")
    assert told.code == 1
    assert "NOT deleted" in told.err
    assert not at_home.store.knows_job(job)
    monkeypatch.setenv(URL_VARIABLE, at_home.running.url)
    # The keys are gone: there is nothing to ask about.
    monkeypatch.setattr("typer.prompt", lambda *_, **__: pytest.fail("asked"))
    told = await said(capsys, "job", "forget", job, "--json")
    assert told.code == 0, told.err
    assert json.loads(told.out)["deleted_at"]


async def test_a_dataset_that_a_job_reads_is_kept_until_the_job_has_ended(
    at_home: World, capsys: pytest.CaptureFixture[str]
) -> None:
    job, dataset = await waiting_job(at_home)
    told = await said(capsys, "data", "forget", dataset, "--yes")
    assert told.code == 1
    assert "[dataset-in-use]" in told.err
    assert at_home.store.dataset(dataset)
    assert (await said(capsys, "job", "cancel", job)).code == 0
    told = await said(capsys, "data", "forget", dataset, "--yes")
    assert told.code == 0, told.err
    history = json.loads((await said(capsys, "job", "history", job, "--json")).out)
    assert [entry["did"] for entry in history["entries"]] == ["created", "cancelled", "dataset-forgotten"]
