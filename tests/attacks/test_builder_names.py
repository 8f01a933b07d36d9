"""Whose builder a name means: never guessed, and never changed in silence."""

import json
from collections.abc import Sequence
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
from chiron.wire.contract import BuilderManifest
from chiron.wire.public_api import BuilderInfo
from tests.support import builders
from tests.support.caller import BUILDER_MANIFEST, Caller
from tests.support.party import Party

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
