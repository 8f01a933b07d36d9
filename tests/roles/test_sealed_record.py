"""A sealed record: what was put in comes out, at one size whatever it is; anything else is refused."""

import asyncio
import math
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.runtime.attestation.platform import Quoted, SealingPolicy
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import OpenFailed, TooLarge
from chiron.runtime.roles.sealed_record import SealedRecord
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.attestation import Role
from chiron.wire.encoding import WireModel
from chiron.wire.labels import CHECKPOINT, MODEL
from chiron.wire.objects import StoredObject

STORED = StoredObject("record", Role.TRAINER, 0, head_bytes=256, part_bytes=(100, 0, 33))
CONTEXT = b"job"


class Said(WireModel):
    """A head with what JSON finds hard."""

    name: str
    score: float


class Keys:
    """A platform that derives a key from the policy and the label; it quotes nothing."""

    def quote(self, report_data: bytes) -> Quoted:
        raise NotImplementedError

    def sealing_recipe(self) -> bytes:
        return b"recipe"

    def sealing_key(self, policy: SealingPolicy, label: bytes, recipe: bytes = b"") -> bytes:
        return bytes(label[-32:]).rjust(32)


class Storage:
    """The operator's: one object a name."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    async def put_object(self, name: str, sealed: bytes) -> None:
        self.objects[name] = sealed

    async def find_object(self, name: str, limit: int) -> bytes | None:
        return self.objects.get(name)


RECORD = SealedRecord(STORED, Said, Sealer(Keys(), CHECKPOINT), CONTEXT)
heads = st.builds(Said, name=st.text(max_size=20), score=st.floats())
parts = st.tuples(st.binary(max_size=100), st.just(b""), st.binary(max_size=33))


def same(left: Said, right: Said) -> bool:
    return left.name == right.name and (
        left.score == right.score or (math.isnan(left.score) and math.isnan(right.score))
    )


@given(heads, parts)
def test_what_is_stored_comes_back_and_its_size_says_nothing(
    head: Said, given_parts: tuple[bytes, bytes, bytes]
) -> None:
    storage = Storage()
    gateway = cast("GatewayClient", storage)

    async def kept() -> tuple[Said, list[bytes]]:
        await RECORD.store(gateway, RECORD.encode(head, *given_parts))
        found = await RECORD.load(gateway)
        assert found is not None
        return found[0], [bytes(part) for part in found[1]]

    found, found_parts = asyncio.run(kept())
    assert same(found, head)
    assert found_parts == list(given_parts)
    assert len(storage.objects["record"]) == STORED.stored_bytes


async def test_nothing_stored_is_none() -> None:
    assert await RECORD.load(cast("GatewayClient", Storage())) is None


def test_a_part_may_write_itself() -> None:
    def written(room: memoryview) -> int:
        room[:3] = b"abc"
        return 3

    _, found = RECORD.decode(bytes(RECORD.encode(Said(name="", score=0), written, b"", b"")))
    assert [bytes(part) for part in found] == [b"abc", b"", b""]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("x" * 256, (b"", b"", b"")),
        ("", (bytes(101), b"", b"")),
        ("", (b"", b"x", b"")),
        ("", (b"", b"", bytes(34))),
    ],
)
def test_what_does_not_fit_its_room_is_refused(name: str, found: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(TooLarge):
        RECORD.encode(Said(name=name, score=0), *found)


@given(heads, parts, st.data())
def test_truncated_lengthened_or_altered_objects_do_not_open(
    head: Said, given_parts: tuple[bytes, bytes, bytes], data: st.DataObject
) -> None:
    sealed = RECORD.seal(RECORD.encode(head, *given_parts))
    # Past the recipe, which the platform derives the key from: this one's ignores it.
    place = data.draw(st.integers(65, len(sealed) - 1))
    altered = bytearray(sealed)
    altered[place] ^= data.draw(st.integers(1, 255))
    for other in (sealed[:place], sealed + b"\0", bytes(altered), b""):
        with pytest.raises(OpenFailed):
            RECORD.open(other)


@pytest.mark.parametrize(
    "other",
    [
        SealedRecord(STORED, Said, Sealer(Keys(), MODEL), CONTEXT),
        SealedRecord(STORED, Said, Sealer(Keys(), CHECKPOINT), b"another job"),
    ],
)
def test_another_purpose_or_context_does_not_open_it(other: SealedRecord[Said]) -> None:
    sealed = RECORD.seal(RECORD.encode(Said(name="", score=0), b"", b"", b""))
    with pytest.raises(OpenFailed):
        other.open(sealed)


@given(heads, parts, st.integers(0, 255), st.integers(1, 255))
def test_garbled_content_is_refused_or_read_within_its_rooms(
    head: Said, given_parts: tuple[bytes, bytes, bytes], place: int, change: int
) -> None:
    content = RECORD.encode(head, *given_parts)
    content[place] ^= change
    try:
        _, found = RECORD.decode(bytes(content))
    except OpenFailed:
        return
    assert all(len(part) <= room for part, room in zip(found, STORED.part_bytes, strict=True))


@given(st.binary(max_size=600))
def test_arbitrary_content_is_refused(content: bytes) -> None:
    with pytest.raises(OpenFailed):
        RECORD.decode(content)
