"""Whose builder a name means: never guessed, and never changed in silence."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron import AsyncClient, BuilderChanged, ConfigurationInvalid, GatewayMisbehaved, OwnerStore
from chiron.api.keys import TenantRole
from chiron.client.builders import find_builder, refuse_changed, remember
from chiron.client.gateway_session import GatewaySession
from chiron.client.granting import grant_in_words, new_terms
from chiron.wire.attestation import Role
from chiron.wire.contract import BuilderManifest
from chiron.wire.public_api import BuilderInfo
from tests.support import builders
from tests.support.caller import BUILDER_MANIFEST, Caller
from tests.support.party import Party
from tests.support.scripts import silent

HONEST, SQUATTED = "1" * 64, "2" * 64


def info(sha256: str = HONEST, publisher: str = "lab", **manifest: Any) -> BuilderInfo:
    described = BuilderManifest.model_validate(
        BUILDER_MANIFEST | {"name": "digits-mlp", "version": "1.0.0"} | manifest
    )
    return BuilderInfo(
        sha256=sha256,
        publisher=publisher,
        size=1,
        capabilities=(),
        manifest=described,
        created_at="2026-01-01T00:00:00Z",
    )


@pytest.fixture(scope="module")
def other_component() -> bytes:
    """Another builder than `component`."""
    return builders.component("unreachable")


def refusal(offered: Sequence[BuilderInfo], text: str) -> str:
    """Why no builder is found."""
    with pytest.raises(ConfigurationInvalid) as raised:
        find_builder(offered, text)
    assert raised.value.code == "builder-not-found"
    return str(raised.value)


@pytest.mark.parametrize("text", ["digits-mlp", "digits-mlp@1.0.0"])
def test_a_name_that_a_second_operator_published_too_is_not_taken_in_silence(text: str) -> None:
    told = refusal([info(SQUATTED, "evil"), info()], text)
    assert f"lab/digits-mlp@1.0.0  {HONEST}" in told
    assert f"evil/digits-mlp@1.0.0  {SQUATTED}" in told
    assert find_builder([info(SQUATTED, "evil"), info()], "lab/digits-mlp").sha256 == HONEST


def test_the_newest_version_is_not_taken_in_silence_either() -> None:
    offered = [info(SQUATTED, version="9.9"), info()]
    assert "lab/digits-mlp@9.9" in refusal(offered, "lab/digits-mlp")
    assert find_builder(offered, "digits-mlp@1.0.0").sha256 == HONEST


def test_a_name_that_looks_like_the_beginning_of_anothers_digest_is_ambiguous() -> None:
    prefix = HONEST[:12]
    assert "may be any" in refusal([info(), info(SQUATTED, "evil", name=prefix)], prefix)


def test_a_digests_beginning_that_anybody_can_make_again_names_nothing() -> None:
    assert find_builder([info()], HONEST[:12]).sha256 == HONEST
    assert "no builder" in refusal([info()], HONEST[:11])


@pytest.mark.parametrize(
    "text", ["", "/", "@", "lab/", "@1.0.0", "lab/digits-mlp@", "LAB/digits-mlp", "lab/*"]
)
def test_what_names_nothing_finds_nothing(text: str) -> None:
    assert "no builder" in refusal([info()], text)


@given(st.text())
def test_no_text_finds_a_builder_that_it_does_not_name(text: str) -> None:
    try:
        found = find_builder([info(), info(SQUATTED, "evil", version="2.0")], text)
    except ConfigurationInvalid:
        return
    assert found.sha256.startswith(text) or text in found.full_name


async def test_a_publisher_cannot_change_what_a_name_and_version_stand_for(
    world: Party, component: bytes, other_component: bytes
) -> None:
    first = await world.operator.upload_builder(component)
    assert (first.status, first.json["publisher"]) == (201, "op")
    answer = await world.operator.upload_builder(other_component)
    assert (answer.status, answer.code) == (409, "builder-exists")
    assert (await world.operator.upload_builder(other_component, version="1.1")).status == 201


async def test_another_operator_publishes_under_its_own_name_only(
    world: Party, component: bytes, other_component: bytes
) -> None:
    await world.operator.upload_builder(component)
    key = await world.running.gateway.keys.create("evil", TenantRole.OPERATOR)
    evil = Caller(world.nobody.session, world.nobody.url, key)
    assert (await evil.upload_builder(other_component)).json["publisher"] == "evil"
    assert (await evil.upload_builder(component)).code == "builder-exists"
    assert (await evil.upload_builder(other_component, publisher="op")).code == "invalid-request"
    told = (await world.owner("GET", "/v1/builders")).json["items"]
    assert sorted(BuilderInfo.model_validate(one).full_name for one in told) == [
        "evil/tiny@1.0",
        "op/tiny@1.0",
    ]


@dataclass
class Squatted:
    """A component that another operator had published before its author did, with a manifest of its own."""

    author: Caller
    squatter: Caller
    sha256: str


@pytest.fixture
async def squatted(world: Party, component: bytes) -> Squatted:
    key = await world.running.gateway.keys.create("evil", TenantRole.OPERATOR)
    squatter = Caller(world.nobody.session, world.nobody.url, key)
    tiny_models = {"envelope": {"max_parameters": 7}}
    assert (await squatter.upload_builder(component, **tiny_models)).json["publisher"] == "evil"
    published = await world.operator.upload_builder(component)
    assert published.status == 201, published.raw
    return Squatted(world.operator, squatter, published.json["sha256"])


async def test_attack_an_operator_publishes_anothers_component_first_to_keep_it_from_publishing(
    world: Party, squatted: Squatted, component: bytes
) -> None:
    assert (await squatted.author.upload_builder(component)).status == 201
    told = [
        BuilderInfo.model_validate(one) for one in (await world.owner("GET", "/v1/builders")).json["items"]
    ]
    assert sorted(one.full_name for one in told) == ["evil/tiny@1.0", "op/tiny@1.0"]
    assert {one.sha256 for one in told} == {squatted.sha256}
    pages = [await world.owner("GET", "/v1/builders?limit=1")]
    pages.append(await world.owner("GET", f"/v1/builders?limit=1&cursor={pages[0].json['next']}"))
    assert {page.json["items"][0]["publisher"] for page in pages} == {"evil", "op"}
    assert pages[1].json["next"] is None
    assert "evil/tiny@1.0" in refusal(told, squatted.sha256)
    for text in ("op/tiny", f"op/{squatted.sha256}", f"op/{squatted.sha256[:12]}"):
        assert find_builder(told, text).publisher == "op"


async def test_attack_a_squatters_manifest_is_taken_for_the_authors(world: Party, squatted: Squatted) -> None:
    dataset = await world.owner.upload_dataset()
    request: dict[str, Any] = {"dataset_id": dataset, "builder_sha256": squatted.sha256, "trainers": 1}
    unsaid = await world.owner("POST", "/v1/jobs", json=request)
    assert unsaid.code == "job-does-not-fit"
    assert "op/tiny@1.0" in unsaid.json["detail"]
    for publisher, parameters in (("op", 1000), ("evil", 7)):
        made = await world.owner("POST", "/v1/jobs", json=request | {"builder_publisher": publisher})
        assert made.json["spec"]["envelope"]["max_parameters"] == parameters
    none = await world.owner("POST", "/v1/jobs", json=request | {"builder_publisher": "rival"})
    assert none.code == "builder-unknown"


async def test_attack_a_squatter_deletes_the_component_that_its_author_publishes_too(
    world: Party, squatted: Squatted
) -> None:
    blob = world.running.gateway.settings.blob_dir / "builders" / squatted.sha256
    path = f"/v1/builders/{squatted.sha256}"
    key = await world.running.gateway.keys.create("third", TenantRole.OPERATOR)
    third = Caller(world.nobody.session, world.nobody.url, key)
    assert (await third("DELETE", path)).code == "forbidden"
    assert (await squatted.squatter("DELETE", path)).status == 204
    assert (await squatted.squatter("DELETE", path)).code == "forbidden"
    assert blob.exists()
    assert (await world.owner("GET", path)).json["publisher"] == "op"
    assert (await squatted.author("DELETE", path)).status == 204
    assert not blob.exists()
    assert (await squatted.author("DELETE", path)).code == "builder-unknown"


async def test_the_last_publisher_of_a_builder_that_a_job_runs_keeps_it(
    world: Party, squatted: Squatted
) -> None:
    world.launcher.backend.scripts[Role.PARAMETER_SERVER] = silent
    dataset = await world.owner.upload_dataset()
    request = {"dataset_id": dataset, "builder_sha256": squatted.sha256, "builder_publisher": "op"}
    job = (await world.owner("POST", "/v1/jobs", json=request)).json["spec"]["job"]
    path = f"/v1/builders/{squatted.sha256}"
    assert (await squatted.author("DELETE", path)).status == 204
    assert (await squatted.squatter("DELETE", path)).code == "builder-in-use"
    assert (await world.owner("POST", f"/v1/jobs/{job}/cancel")).status == 200
    assert (await squatted.squatter("DELETE", path)).status == 204


def test_a_gateway_that_gives_a_granted_name_to_another_builder_is_refused(tmp_path: Path) -> None:
    store = OwnerStore(tmp_path)
    refuse_changed(store, info(), "digits-mlp")
    remember(store, info())
    refuse_changed(store, info(), "digits-mlp")
    for text in ("digits-mlp", "lab/digits-mlp@1.0.0", SQUATTED[:12]):
        with pytest.raises(BuilderChanged, match=HONEST):
            refuse_changed(store, info(SQUATTED), text)
    refuse_changed(store, info(SQUATTED), SQUATTED)
    refuse_changed(store, info(SQUATTED, version="1.1"), "digits-mlp")


async def test_a_gateway_that_answers_another_builder_for_a_digest_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def another(_: GatewaySession, __: str, **___: object) -> bytes:
        return info(SQUATTED).model_dump_json().encode()

    monkeypatch.setattr(GatewaySession, "fetch", another)
    async with AsyncClient("http://127.0.0.1:9", "k", store=OwnerStore(tmp_path)) as client:
        with pytest.raises(GatewayMisbehaved, match="another builder"):
            await client.builder(HONEST)


@pytest.mark.parametrize("publisher", ["", "LAB", "lab/x", "lab\x1b[31m", "l" * 64])
def test_a_publisher_that_is_no_name_is_refused(publisher: str) -> None:
    told = json.loads(info().model_dump_json()) | {"publisher": publisher}
    with pytest.raises(ValueError, match="publisher"):
        BuilderInfo.model_validate(told)


def test_the_grant_that_an_owner_agrees_to_names_builder_and_digest() -> None:
    words = grant_in_words(new_terms(datetime.now(UTC)), info())
    assert any("lab/digits-mlp@1.0.0" in line and HONEST in line for line in words)
