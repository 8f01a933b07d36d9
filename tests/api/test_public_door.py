"""Who gets in, and how everybody else is told: problems with stable codes, and nothing else."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from chiron.api.keys import TenantRole, opened_keys
from chiron.api.settings import Settings
from chiron.wire.codes import PROBLEM_CONTENT_TYPE, Problem
from tests.api.conftest import Party
from tests.support.caller import Caller
from tests.support.party import party, settings_in
from tests.support.scripts import scripted

JOB = "00" * 16


@pytest.mark.parametrize("key", ["", "x", "chiron_0000000000000000_" + "A" * 43, "chiron_" + "é" * 60])
async def test_a_key_that_is_not_ours_is_refused(world: Party, key: str) -> None:
    answer = await Caller(world.nobody.session, world.nobody.url, key)("GET", "/v1/jobs")
    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_key_with_another_secret_is_refused(world: Party) -> None:
    key = world.owner.headers["Authorization"].removeprefix("Bearer ")
    changed = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert (await Caller(world.owner.session, world.owner.url, changed)("GET", "/v1/jobs")).status == 401


async def test_a_revoked_key_is_refused_at_once(world: Party) -> None:
    key = world.owner.headers["Authorization"].removeprefix("Bearer ")
    assert (await world.owner("GET", "/v1/jobs")).status == 200
    assert await world.running.gateway.keys.revoke(key.split("_")[1])
    assert (await world.owner("GET", "/v1/jobs")).code == "unauthenticated"
    assert not await world.running.gateway.keys.revoke("f" * 16)


async def test_a_key_made_beside_the_running_gateway_counts(world: Party, settings: Settings) -> None:
    async with opened_keys(settings) as keys:
        key = await keys.create("clinic", TenantRole.OWNER)
    assert (await Caller(world.nobody.session, world.nobody.url, key)("GET", "/v1/datasets")).json[
        "items"
    ] == []


async def test_no_key_is_stored_in_the_clear(world: Party, settings: Settings) -> None:
    secret = world.owner.headers["Authorization"].split("_", 2)[2].encode()
    files = [path for path in settings.state_dir.rglob("*") if path.is_file()]
    assert files
    assert not any(secret in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/builders"),
        ("POST", "/v1/builders"),
        ("POST", "/v1/datasets"),
        ("PUT", f"/v1/datasets/{JOB}/chunks/0"),
        ("GET", f"/v1/jobs/{JOB}/events"),
        ("POST", f"/v1/jobs/{JOB}/grant"),
        ("POST", f"/v1/jobs/{JOB}/queries"),
    ],
)
async def test_nothing_works_without_a_key(world: Party, method: str, path: str) -> None:
    assert (await world.nobody(method, path)).code == "unauthenticated"


async def test_roles_are_kept_apart(world: Party) -> None:
    assert (await world.owner.upload_builder(b"\0asm")).code == "forbidden"
    assert (await world.operator("POST", "/v1/datasets", json={})).code == "forbidden"
    assert (await world.operator("POST", "/v1/jobs", json={})).code == "forbidden"
    assert (await world.operator("GET", f"/v1/jobs/{JOB}/objects/model")).code == "forbidden"


async def test_unknown_paths_and_methods_are_problems_too(world: Party) -> None:
    assert (await world.owner("GET", "/v1/nothing")).code == "route-unknown"
    assert (await world.owner("GET", "/v1/jobs/not-an-id")).code == "route-unknown"
    assert (await world.owner("GET", "/v1/datasets/../../etc/passwd")).code == "route-unknown"
    answer = await world.owner("DELETE", "/v1/jobs")
    assert (answer.status, answer.code) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST" or answer.headers["Allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"dataset_id": "ZZ"}', "dataset_id"),
        (b'{"trainers": 0}', "trainers"),
        (b'{"surprise": 1}', "surprise"),
        (b"[" * 50_000, "body"),
    ],
)
async def test_a_body_that_does_not_fit_names_the_field(world: Party, body: bytes, field: str) -> None:
    answer = await world.owner("POST", "/v1/jobs", data=body)
    assert (answer.status, answer.code) == (400, "invalid-request")
    assert f"{field}: " in answer.json["detail"]


async def test_what_was_sent_is_not_repeated(world: Party) -> None:
    answer = await world.owner("POST", "/v1/jobs", data=b'{"seed": "hunter2", "trainers": "hunter2"}')
    assert b"hunter2" not in answer.raw


async def test_a_body_announced_too_large_is_refused_unread(world: Party) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.running.url.rsplit(":", 1)[1]))
    key = world.owner.headers["Authorization"]
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Length: 999999999\r\n\r\n"
    writer.write(head.encode())
    status = await asyncio.wait_for(reader.readline(), 3)
    assert b" 413 " in status
    writer.close()


async def test_a_body_of_unknown_length_is_cut_off(world: Party) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 65_536

    answer = await world.owner("POST", "/v1/jobs", data=endless())
    assert (answer.status, answer.code) == (413, "body-too-large")


async def test_an_unexpected_error_tells_nothing_and_its_log_no_values(
    world: Party, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("hunter2 in /secret/place")

    monkeypatch.setattr(world.running.gateway.datasets, "listed", broken)
    with caplog.at_level(logging.DEBUG, logger="chiron.api"):
        answer = await world.owner("GET", "/v1/datasets")
    assert (answer.status, answer.code) == (500, "internal")
    logged = json.dumps([record.__dict__ for record in caplog.records], default=str)
    assert "RuntimeError" in logged
    assert "hunter2" not in logged
    assert b"secret" not in answer.raw
    assert world.owner.headers["Authorization"].split("_", 2)[2] not in logged


async def test_every_refusal_is_a_wire_problem(world: Party) -> None:
    for answer in [
        await world.nobody("GET", "/v1/jobs"),
        await world.owner("GET", "/nowhere"),
        await world.owner("GET", f"/v1/jobs/{JOB}"),
        await world.owner("POST", "/v1/jobs", data=b"x"),
    ]:
        assert answer.headers["Content-Type"].split(";")[0] == PROBLEM_CONTENT_TYPE
        assert Problem.model_validate_json(answer.raw).status == answer.status


async def test_the_enclave_api_is_not_on_the_public_address(world: Party) -> None:
    assert (await world.owner("GET", "/enclave/v1/mailbox")).code == "route-unknown"
    assert (await world.as_enclave("GET", "/../../v1/jobs", None)).code == "route-unknown"


async def test_health_metrics_and_the_interface_need_no_key(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, metrics_host="127.0.0.1", metrics_port=0)
    async for world in party(settings, scripted(settings.socket_path)):
        assert (await world.nobody("GET", "/healthz")).json == {"status": "ok"}
        await world.nobody("GET", "/v1/jobs")
        assert (await world.nobody("GET", "/metrics")).code == "route-unknown"
        operators = Caller(world.nobody.session, world.running.metrics_url or "", None)
        text = (await operators("GET", "/metrics")).raw.decode()
        assert 'chiron_http_requests_total{api="public",route="GET /v1/jobs",status="401"} 1.0' in text
        assert "hospital" not in text
