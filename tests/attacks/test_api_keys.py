"""What a gateway's API keys let through: each no more than its role, its job and its time."""

import asyncio
import base64
import json
import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chiron.api import server
from chiron.api.applications import PUBLIC
from chiron.api.errors import KeyExists, KeyUnknown, RequestInvalid
from chiron.api.keys import KeyTerms, TenantRole
from chiron.api.server import running_gateway
from chiron.api.settings import Settings
from chiron.cli.application import main
from chiron.wire.apikeys import new_key
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import MailReply, Ready, SealedMessage
from tests.support.caller import Caller, created_job
from tests.support.launcher import SimulatedLauncher
from tests.support.party import Party, party
from tests.support.scripts import Launched, Scripts

GRANT = {"sealed": base64.b64encode(b"grant").decode()}
NONCE = base64.b64encode(bytes(32)).decode()
FOREIGN = "ab" * 16


def in_an_hour() -> int:
    return int(time.time()) + 3600


def holder(world: Party, key: str) -> Caller:
    return Caller(world.nobody.session, world.nobody.url, key)


def key_of(caller: Caller) -> str:
    return caller.headers["Authorization"].removeprefix("Bearer ")


def id_of(key: str) -> str:
    return key.split("_")[1]


async def with_predictor(world: Party, component: bytes) -> str:
    """A job that succeeded, whose predictor runs."""
    job = await world.create_job(component)
    assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=GRANT)).status == 204
    assert (await world.end_of(job))["state"] == "succeeded"
    assert (await world.owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
    return job


async def invited(world: Party, job: str, **changes: Any) -> tuple[Caller, str]:
    """A guest of the job, and the key's id."""
    body = {"expires_at": in_an_hour(), "label": "colleague"} | changes
    answer = await world.owner("POST", f"/v1/jobs/{job}/guests", json=body)
    assert answer.status == 201, answer.raw
    return holder(world, answer.json["key"]), answer.json["guest"]["key_id"]


def routes(job: str) -> Iterator[tuple[str, str]]:
    """Every operation of the public door that needs a key, with the variables of its path filled in."""
    for operation in PUBLIC:
        if operation.roles:
            values = {
                "id": job,
                "sha256": "0" * 64,
                "name": "model",
                "number": "0",
                "key_id": "0" * 16,
            }
            path = operation.path.template
            for name, _ in operation.path.variables:
                path = path.replace(f"{{{name}}}", values[name])
            yield operation.method, path


async def test_a_guest_starts_and_asks_the_predictor_of_its_job_and_nothing_else(
    world: Party, component: bytes
) -> None:
    job = await with_predictor(world, component)
    guest, _ = await invited(world, job)
    evidence = {"role": "predictor", "nonce": NONCE}
    assert (await guest("POST", f"/v1/jobs/{job}/evidence", json=evidence)).status == 200
    assert (await guest("GET", f"/v1/jobs/{job}/predictor")).json["state"] == "ready"
    assert (await guest("POST", f"/v1/jobs/{job}/queries", json=GRANT)).status == 200
    allowed = {
        ("POST", f"/v1/jobs/{job}/evidence"),
        ("GET", f"/v1/jobs/{job}/predictor"),
        ("POST", f"/v1/jobs/{job}/predictor"),
        ("POST", f"/v1/jobs/{job}/queries"),
    }
    for method, path in set(routes(job)) - allowed:
        answer = await guest(method, path)
        assert answer.code in ("forbidden", "job-unknown"), (method, path, answer.raw)
    assert (await world.owner("GET", f"/v1/jobs/{job}/predictor")).json["state"] == "ready"
    assert (await world.owner("DELETE", f"/v1/jobs/{job}/predictor")).status == 200
    assert (await guest("POST", f"/v1/jobs/{job}/predictor")).status == 202


async def test_a_guest_starts_no_predictor_of_a_job_without_a_model(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    guest, _ = await invited(world, job)
    assert (await guest("POST", f"/v1/jobs/{job}/predictor")).code == "job-not-succeeded"


async def test_a_guest_ends_no_predictor_of_the_code_that_the_owner_chose(
    world: Party, component: bytes
) -> None:
    job = await with_predictor(world, component)
    guest, _ = await invited(world, job)
    enclave = world.running.gateway.fleet.find(job, Role.PREDICTOR)
    assert enclave is not None
    enclave.measurement = "1" * 64
    for _ in range(3):
        assert (await guest("POST", f"/v1/jobs/{job}/predictor")).status == 202
    assert world.running.gateway.fleet.find(job, Role.PREDICTOR) is enclave


async def test_a_guests_key_is_worth_nothing_for_another_job(world: Party, component: bytes) -> None:
    job = await with_predictor(world, component)
    guest, _ = await invited(world, job)
    request = {
        "dataset_id": FOREIGN,
        "builder_sha256": (await world.owner("GET", "/v1/builders")).json["items"][0]["sha256"],
    }
    other = await created_job(world.owner, request | {"trainers": 1, "exchanges": 1})
    for method, path in routes(other):
        answer = await guest(method, path)
        assert answer.code == "job-unknown", (method, path, answer.raw)
    # A stranger's key for the same job does no better.
    for method, path in routes(job):
        if path.startswith("/v1/jobs/"):
            assert (await world.stranger(method, path, json={})).status >= 400


async def test_a_guest_is_shown_no_evidence_of_the_training_enclaves(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    guest, _ = await invited(world, job)
    demand = {"role": "parameter-server", "nonce": NONCE}
    assert (await guest("POST", f"/v1/jobs/{job}/evidence", json=demand)).code == "forbidden"


async def test_a_guests_key_ends_with_its_time_and_cannot_be_made_for_the_past(
    world: Party, component: bytes
) -> None:
    job = await world.create_job(component)
    body = {"expires_at": int(time.time()) - 1}
    assert (await world.owner("POST", f"/v1/jobs/{job}/guests", json=body)).code == "invalid-request"
    guest, _ = await invited(world, job, expires_at=int(time.time()) + 2)
    assert (await guest("GET", f"/v1/jobs/{job}/predictor")).status == 200
    await asyncio.sleep(2.1)
    assert (await guest("GET", f"/v1/jobs/{job}/predictor")).code == "unauthenticated"
    assert (await world.owner("GET", f"/v1/jobs/{job}/guests")).json == []


async def test_a_guest_who_was_dismissed_is_refused_at_once(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    guest, key_id = await invited(world, job)
    other, _ = await invited(world, job)
    assert [entry["label"] for entry in (await world.owner("GET", f"/v1/jobs/{job}/guests")).json] == [
        "colleague"
    ] * 2
    assert (await world.owner("DELETE", f"/v1/jobs/{job}/guests/{key_id}")).status == 204
    assert (await guest("GET", f"/v1/jobs/{job}/predictor")).code == "unauthenticated"
    assert (await other("GET", f"/v1/jobs/{job}/predictor")).status == 200
    assert (await world.owner("DELETE", f"/v1/jobs/{job}/guests/{key_id}")).code == "key-unknown"


async def test_nobody_invites_to_or_dismisses_from_a_job_of_another_tenant(
    world: Party, component: bytes
) -> None:
    job = await world.create_job(component)
    _, key_id = await invited(world, job)
    guests = f"/v1/jobs/{job}/guests"
    for caller, code in ((world.stranger, "job-unknown"), (world.operator, "forbidden")):
        assert (await caller("POST", guests, json={"expires_at": in_an_hour()})).code == code
        assert (await caller("GET", guests)).code == code
        assert (await caller("DELETE", f"{guests}/{key_id}")).code == code
    owners = id_of(key_of(world.owner))
    assert (await world.owner("DELETE", f"{guests}/{owners}")).code == "key-unknown"
    assert (await world.owner("GET", guests)).status == 200


async def test_an_auditor_reads_public_facts_and_changes_nothing(world: Party, component: bytes) -> None:
    job = await with_predictor(world, component)
    key = await world.running.gateway.keys.create("hospital", TenantRole.AUDITOR)
    auditor = holder(world, key)
    read = {
        ("GET", f"/v1/jobs/{job}"),
        ("GET", f"/v1/jobs/{job}/events"),
        ("GET", f"/v1/jobs/{job}/objects"),
        ("GET", f"/v1/jobs/{job}/observations"),
        ("GET", f"/v1/jobs/{job}/predictor"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/images"),
        ("GET", "/v1/builders"),
    }
    for method, path in read:
        assert (await auditor(method, path)).status == 200, path
    demand = {"role": "predictor", "nonce": NONCE}
    assert (await auditor("POST", f"/v1/jobs/{job}/evidence", json=demand)).status == 200
    also = {("GET", f"/v1/builders/{'0' * 64}"), ("POST", f"/v1/jobs/{job}/evidence")}
    for method, path in set(routes(job)) - read - also:
        assert (await auditor(method, path)).code == "forbidden", (method, path)


async def test_an_auditor_of_one_tenant_sees_nothing_of_another(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    auditor = holder(world, await world.running.gateway.keys.create("rival", TenantRole.AUDITOR))
    assert (await auditor("GET", "/v1/jobs")).json["items"] == []
    assert (await auditor("GET", f"/v1/jobs/{job}")).code == "job-unknown"
    demand = {"role": "parameter-server", "nonce": NONCE}
    assert (await auditor("POST", f"/v1/jobs/{job}/evidence", json=demand)).code == "job-unknown"


async def test_a_key_that_is_revoked_while_it_streams_is_told_nothing_more(
    world: Party, component: bytes
) -> None:
    job = await world.create_job(component)
    session, url = world.owner.session, f"{world.owner.url}/v1/jobs/{job}/events"
    leaked = await world.running.gateway.keys.create("hospital", TenantRole.OWNER)
    async with session.get(url, headers={"Authorization": f"Bearer {leaked}"}) as stream:
        assert b"id: 1\n" in await stream.content.readuntil(b"\n\n")
        assert await world.running.gateway.keys.revoke(id_of(leaked))
        assert (await world.owner("POST", f"/v1/jobs/{job}/cancel")).status == 200
        assert b"cancelled" not in await asyncio.wait_for(stream.content.read(), 5)


async def test_an_operators_key_ends_no_tenants_job_or_predictor(world: Party, component: bytes) -> None:
    job = await with_predictor(world, component)
    assert (await world.operator("DELETE", f"/v1/jobs/{job}/predictor")).code == "forbidden"
    assert (await world.owner("GET", f"/v1/jobs/{job}/predictor")).json["state"] != "stopped"
    ends = (("POST", "cancel"), ("POST", "grant"), ("POST", "queries"), ("GET", "objects/model"))
    for method, path in ends:
        answer = await world.operator(method, f"/v1/jobs/{job}/{path}", json=GRANT)
        assert answer.code == "forbidden", path


async def test_an_operator_who_was_given_the_right_to_cancel_leaves_a_trace(
    settings: Settings,
    launcher: SimulatedLauncher[Scripts],
    component: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async for world in party(settings.model_copy(update={"operator_may_cancel": True}), launcher):
        job = await world.create_job(component)
        assert (await world.operator("POST", f"/v1/jobs/{job}/cancel")).json["state"] == "cancelled"
        (told,) = [record.__dict__ for record in caplog.records if "operator" in record.message]
        assert (told["job"], told["key"]) == (job, id_of(key_of(world.operator)))


async def test_a_rotated_key_holds_for_its_overlap_and_no_longer(world: Party) -> None:
    keys = world.running.gateway.keys
    old = await keys.create("hospital", TenantRole.OWNER)
    new, _ = await keys.rotate(id_of(old), timedelta(seconds=1))
    for key in (old, new):
        assert (await holder(world, key)("GET", "/v1/jobs")).status == 200
    await asyncio.sleep(1.1)
    assert (await holder(world, old)("GET", "/v1/jobs")).code == "unauthenticated"
    assert (await holder(world, new)("GET", "/v1/jobs")).status == 200
    with pytest.raises(KeyUnknown):
        await keys.rotate(id_of(old), timedelta(seconds=1))


async def test_rotating_a_leaked_key_does_not_lengthen_its_life(world: Party) -> None:
    keys, soon = world.running.gateway.keys, datetime.now(UTC) + timedelta(seconds=1)
    leaked = await keys.create("hospital", TenantRole.OWNER, expires_at=soon)
    successor, _ = await keys.rotate(id_of(leaked), timedelta(days=30))
    await asyncio.sleep(1.1)
    for key in (leaked, successor):
        assert (await holder(world, key)("GET", "/v1/jobs")).code == "unauthenticated"


async def test_an_owners_key_is_never_seen_by_the_operator(world: Party, settings: Settings) -> None:
    made = new_key()
    keys = world.running.gateway.keys
    terms = KeyTerms("clinic", TenantRole.OWNER)
    assert (await holder(world, made.text)("GET", "/v1/jobs")).code == "unauthenticated"
    await keys.register(made.id, made.secret_sha256, terms)
    assert (await holder(world, made.text)("GET", "/v1/jobs")).json["items"] == []
    assert made.text not in repr(made)
    with pytest.raises(KeyExists):
        await keys.register(made.id, new_key().secret_sha256, terms)
    with pytest.raises(RequestInvalid, match="holder"):
        await keys.rotate(made.id, timedelta(hours=1))
    # The hash is not the key: whoever reads the database cannot come in with it.
    for forged in (f"chiron_{made.id}_{made.secret_sha256[:43]}", made.secret_sha256):
        assert (await holder(world, forged)("GET", "/v1/jobs")).code == "unauthenticated"


async def test_no_key_is_in_any_line_that_anything_logs(
    settings: Settings,
    launcher: SimulatedLauncher[Scripts],
    component: bytes,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.DEBUG):
        async for world in party(settings, launcher):
            job = await with_predictor(world, component)
            guest, _ = await invited(world, job)
            assert (await guest("GET", f"/v1/jobs/{job}/predictor")).status == 200
            assert (await holder(world, key_of(guest)[:-1] + "!")("GET", "/v1/jobs")).status == 401
            first = world.running.first_keys
            assert first is not None
            rotated, _ = await world.running.gateway.keys.rotate(id_of(first.owner), timedelta(hours=1))
            known = [first.operator, first.owner, rotated, *map(key_of, (world.owner, world.operator, guest))]
    assert caplog.records
    logged = json.dumps([record.__dict__ for record in caplog.records], default=str)
    out, err = capfd.readouterr()
    for key in known:
        secret = key.split("_", 2)[2]
        assert secret not in logged + out + err
    stored = [path.read_bytes() for path in settings.state_dir.rglob("*") if path.is_file()]
    assert not any(key.split("_", 2)[2].encode() in content for key in known for content in stored)


@pytest.mark.parametrize(("told", "terminal"), [((), False), ((), True), (("--json",), False)])
def test_a_service_managers_log_gets_no_first_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: tuple[str, ...], terminal: bool
) -> None:
    chosen: list[Settings] = []

    async def served(settings: Settings, *_: object, **__: object) -> None:
        chosen.append(settings)

    monkeypatch.setattr(server, "serve", served)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    image = ["--image", str(tmp_path), "--state-dir", str(tmp_path)]
    assert main(["serve", *image, *told]) == 0
    assert [settings.first_keys for settings in chosen] == [bool(told) or terminal]


async def test_a_gateway_without_keys_lets_nobody_in_rather_than_making_some(
    settings: Settings, launcher: SimulatedLauncher[Scripts]
) -> None:
    async with running_gateway(settings.model_copy(update={"first_keys": False}), launcher) as running:
        assert running.first_keys is None
        assert await running.gateway.keys.listed() == []


async def test_a_guest_dismissed_while_the_enclave_works_gets_no_answer(
    world: Party, component: bytes
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(me: Launched) -> int:
        await me.gateway.ready(Ready())
        async for mail in me.gateway.mail():
            asked.set()
            await go_on.wait()
            await me.gateway.reply(mail, MailReply(message=SealedMessage(sealed=b"answer")))
        return 0

    world.launcher.backend.scripts[Role.PREDICTOR] = slow
    job = await with_predictor(world, component)
    guest, key_id = await invited(world, job)
    query = asyncio.create_task(guest("POST", f"/v1/jobs/{job}/queries", json=GRANT))
    await asyncio.wait_for(asked.wait(), 5)
    assert (await world.owner("DELETE", f"/v1/jobs/{job}/guests/{key_id}")).status == 204
    go_on.set()
    assert (await query).code == "unauthenticated"
