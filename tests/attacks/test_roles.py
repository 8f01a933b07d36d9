"""Who may do what at the gateway's public door: every route of its own OpenAPI, times every kind of caller.

A route without a row here fails, and so does a row whose route is gone.
"""

import base64
import json
import time
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
import pytest

from chiron.api.applications import PUBLIC
from chiron.api.keys import TenantRole
from chiron.api.openapi import document
from tests.support.caller import BUILDER_MANIFEST, Answer, Caller, manifest
from tests.support.party import Party

Route: TypeAlias = tuple[str, str]
SEALED = {"sealed": base64.b64encode(b"sealed").decode()}
NONCE = base64.b64encode(bytes(32)).decode()
DATASET = "ab" * 16

OPERATOR, OWNER, AUDITOR, GUEST, NOBODY = "operator", "owner", "auditor", "guest", "nobody"
STRANGER, FOREIGN_AUDITOR, FOREIGN_GUEST = "owner elsewhere", "auditor elsewhere", "guest elsewhere"
CALLERS = (OPERATOR, OWNER, AUDITOR, GUEST, NOBODY, STRANGER, FOREIGN_AUDITOR, FOREIGN_GUEST)
TENANTS = frozenset({OPERATOR, OWNER, AUDITOR, STRANGER, FOREIGN_AUDITOR})
"""Who reads what is published for everybody who has a key that is not for one job only."""

EVERYBODY = frozenset(CALLERS)
ONLY_OWNER = frozenset({OWNER})
READERS = frozenset({OPERATOR, OWNER, AUDITOR})
ASKERS = frozenset({OWNER, GUEST})

MAY: dict[Route, frozenset[str]] = {
    ("GET", "/healthz"): EVERYBODY,
    ("GET", "/openapi.json"): EVERYBODY,
    ("GET", "/v1/images"): TENANTS,
    ("POST", "/v1/machine"): frozenset({OWNER, STRANGER}),
    ("POST", "/v1/builders"): frozenset({OPERATOR}),
    ("GET", "/v1/builders"): TENANTS,
    ("GET", "/v1/builders/{sha256}"): TENANTS,
    ("DELETE", "/v1/builders/{sha256}"): frozenset({OPERATOR}),
    # These two are about the caller's own tenant, whoever that is.
    ("POST", "/v1/datasets"): frozenset({OWNER, STRANGER}),
    ("GET", "/v1/datasets"): frozenset({OWNER, STRANGER}),
    ("GET", "/v1/datasets/{id}"): ONLY_OWNER,
    ("PUT", "/v1/datasets/{id}/chunks/{number}"): ONLY_OWNER,
    ("POST", "/v1/datasets/{id}/complete"): ONLY_OWNER,
    ("DELETE", "/v1/datasets/{id}"): ONLY_OWNER,
    ("POST", "/v1/jobs"): ONLY_OWNER,
    ("GET", "/v1/jobs"): TENANTS,
    ("GET", "/v1/jobs/{id}"): READERS,
    ("DELETE", "/v1/jobs/{id}"): ONLY_OWNER,
    ("POST", "/v1/jobs/{id}/cancel"): ONLY_OWNER,
    ("GET", "/v1/jobs/{id}/events"): READERS,
    ("GET", "/v1/jobs/{id}/objects"): READERS,
    ("GET", "/v1/jobs/{id}/objects/{name}"): ONLY_OWNER,
    ("GET", "/v1/jobs/{id}/observations"): READERS,
    ("POST", "/v1/jobs/{id}/evidence"): READERS | {GUEST},
    ("POST", "/v1/jobs/{id}/grant"): ONLY_OWNER,
    ("POST", "/v1/jobs/{id}/opening"): ONLY_OWNER,
    ("POST", "/v1/jobs/{id}/queries"): ASKERS,
    ("POST", "/v1/jobs/{id}/guests"): ONLY_OWNER,
    ("GET", "/v1/jobs/{id}/guests"): ONLY_OWNER,
    ("DELETE", "/v1/jobs/{id}/guests/{key_id}"): ONLY_OWNER,
    ("POST", "/v1/jobs/{id}/predictor"): ASKERS,
    ("GET", "/v1/jobs/{id}/predictor"): READERS | {GUEST},
    ("DELETE", "/v1/jobs/{id}/predictor"): ONLY_OWNER,
    ("POST", "/v1/jobs/{id}/predictor/{sha256}"): ONLY_OWNER,
    ("POST", "/v1/jobs/{id}/upgrade"): ONLY_OWNER,
    ("POST", "/v1/jobs/{id}/upgrade/opening"): ONLY_OWNER,
    ("POST", "/v1/jobs/{id}/upgrade/order"): ONLY_OWNER,
}
REFUSALS = {
    "unauthenticated",
    "forbidden",
    "job-unknown",
    "dataset-unknown",
    "builder-unknown",
    "key-unknown",
}
"""What one is told who may not: nothing of whether it is there."""


@dataclass
class Everybody:
    """A job that succeeded, whose predictor runs, and one caller of each kind."""

    world: Party
    job: str
    builder: str
    component: bytes
    key_id: str
    callers: dict[str, Caller]

    async def ask(self, who: str, route: Route) -> Answer:
        """A request that would be good if its caller might make it."""
        method, template = route
        path = (
            template.replace("/datasets/{id}", f"/datasets/{DATASET}")
            .replace("{id}", self.job)
            .replace("{sha256}", self.builder if "/builders/" in template else "0" * 64)
            .replace("{number}", "0")
            .replace("{name}", "model")
            .replace("{key_id}", self.key_id)
        )
        return await self.callers[who](method, path, **self.body(route))

    def body(self, route: Route) -> dict[str, Any]:
        if route == ("POST", "/v1/builders"):
            form = aiohttp.FormData()
            form.add_field("manifest", json.dumps(BUILDER_MANIFEST), filename="m.json")
            form.add_field("component", self.component, filename="b.wasm")
            return {"data": form}
        if route == ("PUT", "/v1/datasets/{id}/chunks/{number}"):
            return {"data": bytes(1000)}
        bodies: dict[str, Any] = {
            "/v1/machine": {"nonce": NONCE},
            "/v1/datasets": {"manifest": manifest().model_dump(mode="json")},
            "/v1/jobs": {"dataset_id": DATASET, "builder_sha256": self.builder, "trainers": 1},
            "/v1/jobs/{id}/evidence": {"role": "predictor", "nonce": NONCE},
            "/v1/jobs/{id}/guests": {"expires_at": int(time.time()) + 60},
            "/v1/jobs/{id}/upgrade": {"giver": "0" * 64},
            "/v1/jobs/{id}/upgrade/order": {"order": order(self.job), "taker": evidence(self.job)},
        }
        takes_sealed = route[1].rpartition("/")[2] in ("grant", "opening", "queries")
        body = SEALED if takes_sealed else bodies.get(route[1])
        return {"json": body} if route[0] == "POST" and body is not None else {}


def evidence(job: str) -> dict[str, Any]:
    collateral = dict.fromkeys(
        (
            "pck_crl_issuer_chain",
            "root_ca_crl",
            "pck_crl",
            "tcb_info_issuer_chain",
            "tcb_info",
            "tcb_info_signature",
            "qe_identity_issuer_chain",
            "qe_identity",
            "qe_identity_signature",
        ),
        "",
    )
    claims = {"role": "predictor", "job": job, "hpke_public_key": _b64(bytes(1216)), "nonce": NONCE}
    return {"quote": _b64(b"quote"), "collateral": collateral, "claims": claims}


def order(job: str) -> dict[str, Any]:
    policy = {"measurements": ["0" * 64], "signers": ["0" * 64]}
    ordered = {
        "job": job,
        "old": policy,
        "new": policy,
        "nonce": NONCE,
        "taker_key_sha256": "0" * 64,
        "giver_key_sha256": "0" * 64,
    }
    return {"order": ordered, "signature": _b64(bytes(64))}


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture
async def everybody(world: Party, component: bytes) -> Everybody:
    job = await world.create_job(component)
    assert (await world.owner("POST", f"/v1/jobs/{job}/grant", json=SEALED)).status == 204
    assert (await world.end_of(job))["state"] == "succeeded"
    assert (await world.owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
    expiry = {"expires_at": int(time.time()) + 60}
    guest = (await world.owner("POST", f"/v1/jobs/{job}/guests", json=expiry)).json
    keys = world.running.gateway.keys

    async def caller(tenant: str, role: TenantRole, job: str | None = None) -> Caller:
        key = await keys.create(tenant, role, job=job)
        return Caller(world.nobody.session, world.nobody.url, key)

    builder = (await world.owner("GET", "/v1/builders")).json["items"][0]["sha256"]
    callers = {
        OPERATOR: world.operator,
        OWNER: world.owner,
        AUDITOR: await caller("hospital", TenantRole.AUDITOR),
        GUEST: Caller(world.nobody.session, world.nobody.url, guest["key"]),
        NOBODY: world.nobody,
        STRANGER: world.stranger,
        FOREIGN_AUDITOR: await caller("rival", TenantRole.AUDITOR),
        FOREIGN_GUEST: await caller("rival", TenantRole.GUEST, job="cd" * 16),
    }
    return Everybody(world, job, builder, component, guest["guest"]["key_id"], callers)


def routes() -> list[Route]:
    """Of the OpenAPI that the gateway serves; what reads or makes comes first, what deletes last."""
    paths = json.loads(document(PUBLIC))["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    return sorted(found, key=lambda route: (route[0] == "DELETE", -len(route[1]) * (route[0] == "DELETE")))


def test_attack_a_route_that_nobody_has_thought_of_is_served() -> None:
    assert set(routes()) == set(MAY)


async def test_the_openapi_that_is_served_is_the_table_that_is_tested(world: Party) -> None:
    assert (await world.nobody("GET", "/openapi.json")).json == json.loads(document(PUBLIC))


@pytest.mark.parametrize("who", [who for who in CALLERS if who != OWNER])
async def test_attack_by_each_caller_on_every_route_that_is_not_theirs(
    everybody: Everybody, who: str
) -> None:
    before = await _state(everybody)
    for route in routes():
        if who in MAY[route]:
            continue
        answer = await everybody.ask(who, route)
        assert answer.status in (401, 403, 404), (who, route, answer.status, answer.raw)
        assert answer.code in REFUSALS, (who, route, answer.raw)
        if who == NOBODY:
            assert answer.code == "unauthenticated", route
    assert await _state(everybody) == before


@pytest.mark.parametrize("who", CALLERS)
async def test_each_caller_may_do_what_is_theirs(everybody: Everybody, who: str) -> None:
    for route in routes():
        if who not in MAY[route]:
            continue
        answer = await everybody.ask(who, route)
        if answer.status >= 400:
            # Whatever hinders it, it is not who asks.
            assert answer.code not in REFUSALS, (who, route, answer.raw)
            assert answer.code != "invalid-request", (who, route, answer.raw)


async def test_attack_a_guest_or_auditor_reads_other_enclaves_evidence(everybody: Everybody) -> None:
    """Auditors read the evidence of their tenant's jobs; a guest has no business but the predictor's."""
    demand = {"role": "parameter-server", "nonce": NONCE}
    path = f"/v1/jobs/{everybody.job}/evidence"
    assert (await everybody.callers[GUEST]("POST", path, json=demand)).code == "forbidden"
    for who in (STRANGER, FOREIGN_AUDITOR, FOREIGN_GUEST):
        assert (await everybody.callers[who]("POST", path, json=demand)).code == "job-unknown"


async def test_attack_lists_show_another_tenants_jobs_or_datasets(everybody: Everybody) -> None:
    for who in (STRANGER, FOREIGN_AUDITOR):
        assert (await everybody.callers[who]("GET", "/v1/jobs")).json["items"] == []
    assert (await everybody.callers[STRANGER]("GET", "/v1/datasets")).json["items"] == []
    shown = (await everybody.callers[AUDITOR]("GET", "/v1/jobs")).json["items"]
    assert [one["spec"]["job"] for one in shown] == [everybody.job]


async def test_what_does_not_exist_is_refused_as_what_is_anothers(everybody: Everybody) -> None:
    """Else a stranger could ask which ids there are."""
    stranger = everybody.callers[STRANGER]
    for path in (f"/v1/jobs/{everybody.job}", f"/v1/datasets/{DATASET}"):
        theirs = await stranger("GET", path)
        none = await stranger("GET", path[:-32] + "f" * 32)
        assert (theirs.status, theirs.raw) == (none.status, none.raw)


async def _state(everybody: Everybody) -> Any:
    """What a caller could have changed."""
    owner, job = everybody.world.owner, everybody.job
    paths = (f"/v1/jobs/{job}", "/v1/jobs", "/v1/datasets", "/v1/builders", f"/v1/jobs/{job}/objects")
    shown = [(await owner("GET", path)).json for path in paths]
    predictor = (await owner("GET", f"/v1/jobs/{job}/predictor")).json
    guests = (await owner("GET", f"/v1/jobs/{job}/guests")).json
    return shown, predictor["state"], [one["key_id"] for one in guests]
