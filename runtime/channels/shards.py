"""Between trainers and the parameter server's shards: how a trainer finds one, and whom a shard lets in."""

import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import aiohttp
from aiohttp import web

from chiron.runtime.channels.enrolment import trainer_name
from chiron.runtime.channels.job_ca import shard_name
from chiron.runtime.channels.parameter_server import Membership
from chiron.runtime.errors import EnrolmentRefused, PeerRefused
from chiron.wire.enclave_api import Ready

FindShard: TypeAlias = Callable[[int], Awaitable[Ready]]
"""Asks the gateway where a shard is now."""


class ShardLink:
    """A trainer's way to one shard."""

    def __init__(self, membership: Membership, index: int, find: FindShard) -> None:
        self._membership = membership
        self._index = index
        self._find = find
        self._context: ssl.SSLContext | None = None
        self._address = ""
        self.session: aiohttp.ClientSession
        self.url = ""

    async def connect(self) -> tuple[aiohttp.ClientSession, str]:
        """A session with the shard as it is now. TLS holds it to the job's CA and to its own name.

        Whether it knows of all that we have seen merged, the exchange's greeting finds out.

        Raises:
            PeerRefused: the gateway names no address.
            aiohttp.ClientError, OSError: the parameter server has a successor that is not there yet.
        """
        if self._context is not None:
            # A shard that was launched again has its certificate of the parameter server as it is by now.
            await self._membership.reconnect()
        peer = await self._find(self._index)
        if peer.address is None:
            raise PeerRefused("peer-incomplete", "the shard's announcement lacks an address")
        if (self._context, self._address) != (self._membership.context, peer.address):
            self._context, self._address = self._membership.context, peer.address
            self.session, self.url = await self._membership.open(
                self._context, shard_name(self._index), self._address
            )
        return self.session, self.url


async def links(membership: Membership, find: FindShard) -> list[ShardLink]:
    """A connected link to every shard but the first, which is the parameter server itself."""
    made = []
    for index in range(1, membership.ticket.spec.exchange.shards):
        link = ShardLink(membership, index, find)
        await link.connect()
        made.append(link)
    return made


class Trainers:
    """Whom a shard takes for which trainer, by the certificates that TLS has verified.

    It is not told of enrolments. So the newest certificate of an index that comes is its trainer's, and the
    one before never counts again: a trainer that was replaced cannot displace its successor.
    """

    def __init__(self, trainers: int) -> None:
        self._indices = {trainer_name(index): index for index in range(trainers)}
        self._serials: dict[int, str] = {}
        self._retired: set[str] = set()

    def identify(self, request: web.Request) -> int:
        """Index of the trainer at the other end of this TLS connection.

        Raises:
            EnrolmentRefused: it is none, or was replaced.
        """
        transport = request.transport
        peer = transport.get_extra_info("peercert") if transport else None
        # The job's CA writes exactly one name into a certificate.
        name = peer["subject"][0][0][1] if peer else ""
        if not peer or name not in self._indices:
            raise EnrolmentRefused("client-certificate-required", "enrol at the parameter server first")
        index, serial = self._indices[name], peer["serialNumber"]
        if serial in self._retired:
            raise EnrolmentRefused("client-certificate-replaced", "another enclave holds this index now")
        former = self._serials.get(index, serial)
        if former != serial:
            self._retired.add(former)
        self._serials[index] = serial
        return index
