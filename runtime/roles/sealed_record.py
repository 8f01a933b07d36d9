"""Sealed records in the operator's storage: a head in JSON and runs of bytes, each in fixed room.

A record's name and rooms follow from the public job spec (`chiron.wire.objects`). So every record of a name
is as long as every other, whatever is in it. The content before sealing is: the lengths of the head and each
part (8 bytes each, little-endian); the head, and zeros up to its room; each part, and zeros up to its room.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from pydantic import ValidationError

from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import OpenFailed, TooLarge
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.encoding import WireModel
from chiron.wire.objects import StoredObject

_LENGTH_BYTES = 8

Head = TypeVar("Head", bound=WireModel)
Part: TypeAlias = bytes | Callable[[memoryview], int]
"""A part's content, or what writes it into its room and returns its length: large parts are copied once."""


class Record(Generic[Head]):
    """The form of one stored object before it is sealed."""

    def __init__(self, stored: StoredObject, head: type[Head]) -> None:
        self.stored = stored
        self._head = head

    def encode(self, head: Head, *parts: Part) -> bytearray:
        """The content before sealing, `stored.content_bytes` long. Secret.

        Raises:
            TooLarge: the head or a part does not fit its room.
        """
        content = bytearray(self.stored.content_bytes)
        at, lengths = self.stored.head_bytes, []
        for part, room in zip(parts, self.stored.part_bytes, strict=True):
            with memoryview(content)[at : at + room] as space:
                lengths.append(_fill(space, part))
            at += room
        # Not pydantic's JSON, which has no NaN: a trial without validation has one.
        said = json.dumps(head.model_dump(mode="json")).encode()
        prefix = b"".join(n.to_bytes(_LENGTH_BYTES, "little") for n in (len(said), *lengths))
        if len(prefix) + len(said) > self.stored.head_bytes:
            raise TooLarge("a record's head does not fit its room")
        content[: len(prefix) + len(said)] = prefix + said
        return content

    def decode(self, content: bytes) -> tuple[Head, Sequence[memoryview]]:
        """Head and parts of what `encode` made.

        Raises:
            OpenFailed: it is malformed.
        """
        rooms, prefix = self.stored.part_bytes, _LENGTH_BYTES * (1 + len(self.stored.part_bytes))
        if len(content) != self.stored.content_bytes:
            raise OpenFailed("a record is not of its size")
        length, *lengths = (
            int.from_bytes(content[at : at + _LENGTH_BYTES], "little")
            for at in range(0, prefix, _LENGTH_BYTES)
        )
        if prefix + length > self.stored.head_bytes or any(map(int.__gt__, lengths, rooms)):
            raise OpenFailed("a record's lengths exceed its rooms")
        try:
            head = self._head.model_validate_json(content[prefix : prefix + length])
        except ValidationError:
            # From None: a validation error quotes the head, which may hold keys.
            raise OpenFailed("a record's head is malformed") from None
        parts, at = [], self.stored.head_bytes
        for size, room in zip(lengths, rooms, strict=True):
            parts.append(memoryview(content)[at : at + size])
            at += room
        return head, parts


class SealedRecord(Record[Head]):
    """A record that is sealed to this measurement, for one purpose and context."""

    def __init__(self, stored: StoredObject, head: type[Head], sealer: Sealer, context: bytes) -> None:
        super().__init__(stored, head)
        self._sealer = sealer
        self._context = context

    def seal(self, content: bytes | bytearray) -> bytes:
        """Seal what `encode` made, for storage: `stored.stored_bytes` long."""
        return self._sealer.seal(content, size=self.stored.content_bytes, context=self._context)

    def open(self, sealed: bytes) -> tuple[Head, Sequence[memoryview]]:
        """Head and parts of what `seal` made.

        Raises:
            OpenFailed: it is not one that we sealed for this purpose and context, or is malformed.
        """
        return self.decode(self._sealer.open(sealed, context=self._context))

    async def store(self, gateway: GatewayClient, content: bytes | bytearray) -> None:
        """Seal and store what `encode` made.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        await gateway.put_object(self.stored.name, await asyncio.to_thread(self.seal, content))

    async def load(self, gateway: GatewayClient) -> tuple[Head, Sequence[memoryview]] | None:
        """Head and parts of what is stored; None where nothing is.

        Raises:
            SealingError: what is stored is not a record that we sealed for this purpose and context.
        """
        sealed = await gateway.find_object(self.stored.name, self.stored.stored_bytes)
        return None if sealed is None else await asyncio.to_thread(self.open, sealed)


def _fill(room: memoryview, part: Part) -> int:
    if callable(part):
        return part(room)
    if len(part) > len(room):
        raise TooLarge("a part of a record does not fit its room")
    room[: len(part)] = part
    return len(part)
