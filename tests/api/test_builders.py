"""Builders at the door: what the inspection refuses is not stored; the rest is known by its SHA-256."""

import json
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from chiron.wire.contract import Capability
from chiron.wire.public_api import BuilderInfo
from tests.api.conftest import Party
from tests.support.caller import BUILDER_MANIFEST, Answer


def stored(world: Party) -> int:
    """Blobs in the store."""
    return sum(path.is_file() for path in world.running.gateway.settings.blob_dir.rglob("*"))


async def post(world: Party, *parts: tuple[str, bytes]) -> Answer:
    form = aiohttp.FormData()
    for name, content in parts:
        form.add_field(name, content, filename=name)
    return await world.operator("POST", "/v1/builders", data=form)


async def test_a_builder_is_known_by_its_digest_to_everybody(world: Party, component: bytes) -> None:
    info = BuilderInfo.model_validate_json((await world.operator.upload_builder(component)).raw)
    assert info.sha256 == sha256(component).hexdigest()
    assert info.size == len(component)
    assert info.capabilities == (Capability.LOG,)
    for caller in (world.operator, world.owner, world.stranger):
        assert (
            BuilderInfo.model_validate_json((await caller("GET", f"/v1/builders/{info.sha256}")).raw) == info
        )
        assert [entry["sha256"] for entry in (await caller("GET", "/v1/builders")).json["items"]] == [
            info.sha256
        ]


async def test_the_same_upload_again_changes_nothing(world: Party, component: bytes) -> None:
    first, again = [(await world.operator.upload_builder(component)).json for _ in range(2)]
    assert first == again
    assert stored(world) == 1


async def test_a_builder_keeps_its_manifest(world: Party, component: bytes) -> None:
    await world.operator.upload_builder(component)
    answer = await world.operator.upload_builder(component, version="2.0")
    assert (answer.status, answer.code) == (409, "builder-exists")


@pytest.mark.parametrize(
    "garbage",
    [b"", b"garbage", b"\0asm", b"\0asm\1\0\0\0", b"\0asm\x0d\0\1\0", b"\0asm\x0d\0\1\0" + b"\xff" * 99],
    ids=["empty", "text", "magic", "core-module", "empty-component", "broken-component"],
)
async def test_what_is_no_builder_is_refused_with_the_sandboxs_code(world: Party, garbage: bytes) -> None:
    answer = await world.operator.upload_builder(garbage)
    assert answer.status == 422
    assert answer.code not in ("internal", "content-refused")
    assert stored(world) == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "No Good"}, "name"),
        ({"tasks": []}, "tasks"),
        ({"tasks": ["guessing"]}, "tasks"),
        ({"envelope": {"max_parameters": 0}}, "envelope.max_parameters"),
        ({"envelope": {"max_parameters": 1, "secret": 1}}, "envelope.secret"),
    ],
)
async def test_a_manifest_that_does_not_fit_names_the_field(
    world: Party, component: bytes, changes: dict[str, Any], field: str
) -> None:
    answer = await world.operator.upload_builder(component, **changes)
    assert answer.code == "invalid-request"
    assert field in answer.json["detail"]
    assert stored(world) == 0


async def test_the_parts_are_the_two_each_once(world: Party, component: bytes) -> None:
    manifest = ("manifest", json.dumps(BUILDER_MANIFEST).encode())
    wasm = ("component", component)
    for parts in ([manifest], [wasm], [manifest, wasm, wasm], [manifest, wasm, ("more", b"x")], []):
        assert (await post(world, *parts)).code == "invalid-request"
    assert (await post(world, wasm, manifest)).status == 201


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"no boundary here"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n"),
        (
            "multipart/mixed; boundary=b",
            b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n--b--",
        ),
    ],
)
async def test_a_malformed_upload_is_the_callers_fault(world: Party, content_type: str, body: bytes) -> None:
    answer = await world.operator("POST", "/v1/builders", data=body, headers={"Content-Type": content_type})
    assert (answer.status, answer.code) == (400, "invalid-request")


async def test_a_part_beyond_its_bound_is_cut_off(world: Party, component: bytes) -> None:
    huge = ("manifest", b"{" + b" " * 100_000)
    assert (await post(world, huge, ("component", component))).code == "body-too-large"
