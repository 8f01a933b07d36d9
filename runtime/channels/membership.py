"""A trainer's place in its job: it verifies the parameter server, enrols, and finds its successors."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from chiron.ps.client import PATIENCE_S
from chiron.ps.transport import connection_lost
from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.enrolment import (
    EnrolmentResponse,
    Ticket,
    load_certificate,
)
from chiron.runtime.channels.job_ca import SERVER_NAME
from chiron.runtime.channels.peers import (
    Find,
    Server,
    anonymous_session,
    found,
    read_message,
    request_enrolment,
    verify_server,
)
from chiron.runtime.channels.tls import client_context, named_connector, named_url
from chiron.runtime.errors import PeerRefused
from chiron.wire import paths
from chiron.wire.enclave_api import Progress, Ready
from chiron.wire.jobs import JobState
from chiron.wire.launch import LaunchSpec
from chiron.wire.p256 import generate_key, public_key_der
from chiron.wire.retrying import Backoff, retry

MAX_TICKET_BYTES = 128 * 2**20
"""A job spec holds one digest a chunk, so a ticket can be large."""


class Membership:
    """A trainer's place in a job: a session over mutual TLS, and the ticket it gave."""

    def __init__(
        self, launch: LaunchSpec, platform: Platform, find: Find | None, stack: AsyncExitStack
    ) -> None:
        self._launch = launch
        self._platform = platform
        self._find = find
        self._stack = stack
        self._moving = asyncio.Lock()
        self._address = ""
        self.session: aiohttp.ClientSession
        self.url = ""
        self.ticket: Ticket
        self.context: ssl.SSLContext
        """For speaking to the job's servers: it holds our certificate and trusts the CA of theirs."""

    async def join(self, peer: Ready) -> None:
        """Verify the parameter server (or, if it crashes, its successor), enrol with it, fetch the ticket.

        Raises:
            PeerRefused: the evidence does not hold, or the server refused us.
            aiohttp.ClientError, OSError: it stayed away for `PATIENCE_S`.
        """
        find = self._find
        if find is None:
            return await self._enter(peer)
        known: Ready | None = peer
        backoff = Backoff(PATIENCE_S)

        async def attempt() -> None:
            nonlocal known
            server, known = known or await found(find, backoff), None
            await self._enter(server)

        return await retry(attempt, connection_lost, backoff)

    async def reconnect(self) -> tuple[aiohttp.ClientSession, str]:
        """A session with the parameter server as it is now: the same, or its successor after a crash.

        A successor is verified and enrolled with like the first, and must hold the same grant: else a host
        could put a server with another owner's grant there, and have our changes merged for that owner.

        Raises:
            PeerRefused: it is not one of our measurement and job, or holds another grant.
            aiohttp.ClientError, OSError: it is not there yet.
        """
        # One at a time: a second enrolment of ours would take the first one's certificate away.
        async with self._moving:
            if self._find is None:
                return self.session, self.url
            peer = await self._find()
            if peer.address != self._address:
                context, server = await self._enrol(peer)
                session, url = await self.open(context, SERVER_NAME, server.address)
                if await _fetch_ticket(session, url, server) != self.ticket:
                    raise PeerRefused(
                        "peer-ticket-differs", "the parameter server holds another grant than before"
                    )
                self.context, self._address, self.session, self.url = context, server.address, session, url
            return self.session, self.url

    async def open(
        self, context: ssl.SSLContext, name: str, address: str
    ) -> tuple[aiohttp.ClientSession, str]:
        """A session that lasts as long as the membership, and the URL of the server `name` at `address`."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30)
        session = aiohttp.ClientSession(connector=named_connector(context, address), timeout=timeout)
        return await self._stack.enter_async_context(session), named_url(name, address)

    async def advance(self, state: JobState) -> None:
        """Tell the parameter server how far the public schedule is. Only the leading trainer may.

        Raises:
            PeerRefused: it does not take that from us.
            aiohttp.ClientError, OSError: it stayed away for `PATIENCE_S`.
        """
        body = Progress(state=state).model_dump_json()
        connected = True

        async def attempt() -> None:
            nonlocal connected
            if not connected:
                await self.reconnect()
            connected = False
            async with self.session.post(f"{self.url}{paths.STATE}", data=body) as response:
                if response.status != 204:
                    raise PeerRefused("state-refused", f"the parameter server answered {response.status}")

        await retry(attempt, connection_lost, Backoff(PATIENCE_S))

    async def _enter(self, peer: Ready) -> None:
        self.context, server = await self._enrol(peer)
        self._address = server.address
        self.session, self.url = await self.open(self.context, SERVER_NAME, self._address)
        self.ticket = await _fetch_ticket(self.session, self.url, server)

    async def _enrol(self, peer: Ready) -> tuple[ssl.SSLContext, Server]:
        key = generate_key()
        public_key = public_key_der(key.public_key())
        server = verify_server(peer, self._launch, self._platform, public_key)
        async with anonymous_session(server.authority, server.address) as session:
            enrolled = await request_enrolment(
                session, paths.ENROL, EnrolmentResponse, self._launch, self._platform, public_key
            )
        return client_context(server.authority, key, load_certificate(enrolled.certificate)), server


@asynccontextmanager
async def join(
    peer: Ready, launch: LaunchSpec, platform: Platform, find: Find | None = None
) -> AsyncIterator[Membership]:
    """Become a member of the job whose parameter server `peer` is; `find` finds its successors.

    Raises:
        PeerRefused: the evidence does not hold, or the server refused us.
    """
    async with AsyncExitStack() as stack:
        membership = Membership(launch, platform, find, stack)
        await membership.join(peer)
        yield membership


async def _fetch_ticket(session: aiohttp.ClientSession, url: str, server: Server) -> Ticket:
    """The ticket of a server that the owner accepts.

    Raises:
        PeerRefused: the owner would not have accepted it.
    """
    async with session.get(f"{url}{paths.TICKET}") as response:
        ticket = await read_message(response, Ticket, MAX_TICKET_BYTES)
    server.check_accepted(ticket.attestation)
    return ticket
