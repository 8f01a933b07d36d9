"""The parameter server's shards: how each is admitted to the job, whom it lets in, how trainers reach it."""

import ssl
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.ps.client import PATIENCE_S
from chiron.ps.transport import connection_lost
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.enrolment import (
    ShardAdmission,
    load_certificate,
    trainer_name,
)
from chiron.runtime.channels.job_ca import shard_name
from chiron.runtime.channels.membership import Membership
from chiron.runtime.channels.peers import (
    Find,
    anonymous_session,
    found,
    request_enrolment,
    verify_server,
)
from chiron.runtime.errors import EnrolmentRefused, OpenFailed, PeerLost, PeerRefused
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire import paths
from chiron.wire.enclave_api import Ready
from chiron.wire.labels import SHARD_SHARE
from chiron.wire.launch import LaunchSpec
from chiron.wire.machines import MachineKey
from chiron.wire.p256 import public_key_der
from chiron.wire.retrying import Backoff, retry

FindShard: TypeAlias = Callable[[int], Awaitable[Ready]]
"""Asks the gateway where a shard is now."""


class ShardMembership:
    """A shard's place in its job: admitted by the parameter server, and by each of its successors anew.

    Use as an async context manager.
    """

    def __init__(
        self, launch: LaunchSpec, platform: Platform, key: ec.EllipticCurvePrivateKey, find: Find
    ) -> None:
        self._launch = launch
        self._platform = platform
        self._public_key = public_key_der(key.public_key())
        self._hpke_key = PrivateKey.generate()
        self._find = find
        self._address = ""
        self._session: aiohttp.ClientSession | None = None
        self.grant_name = b""
        self.share = b""
        """Our share of the owner's key; secret."""
        self.machines: tuple[MachineKey, ...] = ()
        """Where else our checkpoint is to open."""
        self.authority: x509.Certificate
        """The job CA of the parameter server that admitted us last."""
        self.certificate: x509.Certificate
        """Our certificate, which that CA issued."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def join(self) -> None:
        """Find the parameter server, verify it, and be admitted.

        Raises:
            PeerRefused: it is not one of our measurement and job, or serves another grant or spec.
            PeerLost: it was away for `PATIENCE_S`.
        """
        try:
            backoff = Backoff(PATIENCE_S)
            await retry(lambda: self._find_and_enter(backoff), connection_lost, backoff)
        except (aiohttp.ClientError, OSError) as error:
            raise PeerLost("peer-unreachable", "the parameter server stayed away") from error

    async def ended(self) -> bool:
        """Wait until the job's schedule is over, or until there is another parameter server (False).

        Raises:
            PeerRefused: it is not one of our measurement and job, or serves another grant or spec.
            PeerLost: it was away for `PATIENCE_S`.
        """
        address, connected = self._address, True
        backoff = Backoff(PATIENCE_S)

        async def attempt() -> bool:
            nonlocal connected
            if not connected:
                await self.join()
                if self._address != address:
                    return False
            connected = False
            began = time.monotonic()
            try:
                return await self._wait_for_end()
            except (aiohttp.ClientError, OSError):
                if time.monotonic() - began > PATIENCE_S:
                    # It held our request for so long: it had been there.
                    backoff.reset()
                raise

        try:
            return await retry(attempt, connection_lost, backoff)
        except (aiohttp.ClientError, OSError) as error:
            raise PeerLost("peer-unreachable", "the parameter server stayed away") from error

    async def _wait_for_end(self) -> bool:
        if self._session is None:
            return False
        async with self._session.get(paths.ENDED) as response:
            if response.status != 204:
                raise PeerRefused("peer-message-invalid", f"the server answered {response.status}")
        return True

    async def _find_and_enter(self, backoff: Backoff) -> None:
        peer = await found(self._find, backoff)
        if self._session is None or peer.address != self._address:
            await self._enter(peer)

    async def _enter(self, peer: Ready) -> None:
        server = verify_server(
            peer, self._launch, self._platform, self._public_key, self._hpke_key.public_bytes
        )
        session = anonymous_session(server.authority, server.address)
        try:
            admitted = await request_enrolment(
                session,
                paths.ENROL_SHARD,
                ShardAdmission,
                self._launch,
                self._platform,
                self._public_key,
                self._hpke_key.public_bytes,
            )
            server.check_accepted(admitted.attestation)
            self._check(admitted)
        except BaseException:
            await session.close()
            raise
        if self._session is not None:
            await self._session.close()
        self._session, self._address = session, server.address
        self.authority, self.certificate = server.authority, load_certificate(admitted.certificate)

    def _check(self, admitted: ShardAdmission) -> None:
        if admitted.spec_digest != self._launch.spec.digest():
            raise PeerRefused("peer-spec-differs", "the host launched us with another spec than the owner's")
        if self.grant_name not in (b"", admitted.grant_name):
            raise PeerRefused("peer-ticket-differs", "the parameter server holds another grant than before")
        try:
            context = bytes.fromhex(self._launch.job)
            share = hpke.open(self._hpke_key, admitted.sealed_share, label=SHARD_SHARE, context=context)
        except OpenFailed as error:
            raise PeerRefused("peer-message-invalid", "the share is not sealed to us") from error
        self.grant_name, self.share, self.machines = admitted.grant_name, share, admitted.machines


class TrainerCertificates:
    """Tells a shard which trainer it speaks to, by the certificates that TLS has verified.

    A shard does not hear of enrolments. So the newest certificate of an index that comes is its trainer's,
    and the one before never counts again: a trainer that was replaced cannot displace its successor.
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

        The exchange's greeting then finds out whether it knows of all that we have seen merged.

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


async def connect_to_shards(membership: Membership, find: FindShard) -> list[ShardLink]:
    """A connected link to every shard but the first, which is the parameter server itself."""
    made = []
    for index in range(1, membership.ticket.spec.exchange.shards):
        link = ShardLink(membership, index, find)
        await link.connect()
        made.append(link)
    return made
