"""A door: an HTTP server at which strangers may knock, with bounds on their number and on their time.

aiohttp bounds neither how many connections there are nor how long one may take to send its request. Here:

- A connection that waits (for its handshake, for a request's header, or idle between two) has a deadline.
- So has one whose answer its peer does not read.
- There are so many places, and so many of them for one address. When they are taken, the connection that has
  waited longest, of the address that has most, makes room for a new one. So idle connections keep nobody out.
- A connection whose request was read is never closed for another's sake (`keep`).
- The bodies that strangers are sending hold so many bytes in all; beyond it the slowest sender is given up.
- Members, whose certificate TLS has verified, take no place and may be silent for as long as they like.
"""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from chiron.wire.connections import Connection, DoorLimits
from chiron.wire.errors import ChironError, LimitExceeded
from chiron.wire.networks import belongs, network_of

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LOG = logging.getLogger(__name__)
_BACKLOG = 128
_NO_DESCRIPTORS_S = 0.5
"""The wait when the system has no descriptor for another connection."""


class BodyTooSlow(ChironError):
    """A body was not here in time."""

    code = "request-timeout"


class Door:
    """Accepts connections for an application's runner. `open_door` makes one."""

    def __init__(
        self, runner: web.AppRunner, limits: DoorLimits, context: ssl.SSLContext | None = None
    ) -> None:
        self.limits = limits
        self._runner = runner
        self._context = context
        self._connections: dict[web.RequestHandler, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: socket.socket | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens at."""
        if self._listening is None:
            raise RuntimeError("the door is closed")
        host, port = self._listening.getsockname()[:2]
        return host, port

    def open(self, host: str, port: int) -> None:
        """Listen and accept.

        Raises:
            OSError: the address is taken, or is none of this machine's.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._listening.setblocking(False)
        self._begin(self._accept(self._listening))
        self._begin(self._watch())

    async def close(self) -> None:
        """Accept nobody any more, and end whoever has not come in yet. The rest is the runner's to end."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
            self._listening = None

    async def hang_up(self, seconds: float) -> None:
        """Close the door, and end every connection; what is being answered has `seconds`."""
        await self.close()
        if self._runner.server is not None:
            await self._runner.server.shutdown(seconds)

    def keep(self, request: web.BaseRequest) -> None:
        """From now until its answer, this request's connection makes room for nobody."""
        connection = self._connections.get(request.protocol)
        if connection is not None:
            connection.kept = True

    async def read(self, request: web.Request, limit: int) -> bytes:
        """A stranger's whole body, as `read_stranger`."""
        connection = self._connections.get(request.protocol)
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for piece in request.content.iter_any():
                    body += piece
                    if len(body) > limit:
                        raise LimitExceeded(limit)
                    if connection is not None:
                        connection.sent = len(body)
                        self._give_up_the_slowest()
        except TimeoutError:
            raise BodyTooSlow("the body did not arrive in time") from None
        finally:
            if connection is not None:
                connection.sent = 0
        self.keep(request)
        return bytes(body)

    def _give_up_the_slowest(self) -> None:
        senders = [each for each in self._connections.values() if each.sent]
        if sum(each.sent for each in senders) > self.limits.body_bytes:
            self._drop(min(senders, key=lambda each: each.since))

    async def watch_requests(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Notice that a request of a connection is under way; around every handler."""
        connection = self._connections.get(request.protocol)
        if connection is None:
            return await handler(request)
        connection.asked, connection.since = True, _now()
        try:
            return await handler(request)
        finally:
            connection.asked = connection.kept = False
            connection.since, connection.allowed_s = _now(), self.limits.idle_s

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                _LOG.warning("no connection accepted", extra={"error": type(error).__name__})
                await asyncio.sleep(_NO_DESCRIPTORS_S)
                continue
            network = network_of(address[0])
            bounded = not belongs(address[0], self.limits.proxies)
            if self._runner.server is None or not self._has_room(network, bounded=bounded):
                accepted.close()
                continue
            connection = Connection(self._runner.server(), network, _now(), self.limits.header_s)
            self._connections[connection.handler] = connection
            connection.task = self._begin(self._come_in(connection, accepted))

    async def _come_in(self, connection: Connection, accepted: socket.socket) -> None:
        tls: dict[str, Any] = {}
        if self._context is not None:
            tls = {"ssl": self._context, "ssl_handshake_timeout": self.limits.handshake_s}
        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection.handler, accepted, **tls
            )
        except BaseException as error:
            accepted.close()
            self._connections.pop(connection.handler, None)
            if not isinstance(error, OSError):
                raise
            return
        connection.transport = transport
        connection.member = bool(transport.get_extra_info("peercert"))

    def _has_room(self, network: str, *, bounded: bool) -> bool:
        """Whether a new connection has a place; the one that waits longest is closed where that makes one."""
        self._forget_closed()
        strangers = [each for each in self._connections.values() if not each.member]
        crowd = Counter(each.network for each in strangers)
        if bounded and crowd[network] >= self.limits.connections_per_address:
            strangers = [each for each in strangers if each.network == network]
        elif len(strangers) < self.limits.connections:
            return True
        waiting = [each for each in strangers if not each.kept]
        if not waiting:
            return False
        self._drop(min(waiting, key=lambda each: (-crowd[each.network], each.asked, each.since)))
        return True

    def _drop(self, connection: Connection) -> None:
        self._connections.pop(connection.handler, None)
        connection.close()

    async def _watch(self) -> None:
        """Close whoever is over its time."""
        while True:
            await asyncio.sleep(min(1.0, self.limits.header_s / 4))
            self._forget_closed()
            for connection in list(self._connections.values()):
                if not connection.member and connection.is_late(_now(), self.limits.idle_s):
                    self._drop(connection)

    def _forget_closed(self) -> None:
        self._connections = {
            handler: connection
            for handler, connection in self._connections.items()
            if connection.transport is None or handler.transport is not None
        }

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


DOOR = web.AppKey("door", Door)
"""The door that an application is served at."""


def keep(request: web.Request) -> None:
    """From now until its answer, a request's connection makes room for nobody: its sender is known."""
    if DOOR in request.config_dict:
        request.config_dict[DOOR].keep(request)


async def read_stranger(request: web.Request, limit: int) -> bytes:
    """The whole body of a request, whoever sent it; the request is answered to the end from then on.

    Raises:
        LimitExceeded: it is more than `limit` bytes; no more are read.
        BodyTooSlow: it was not here in time.
        OSError: the connection broke, or was given up for others.
    """
    return await request.config_dict[DOOR].read(request, limit)


@asynccontextmanager
async def open_door(
    app: web.Application,
    host: str,
    port: int,
    *,
    limits: DoorLimits | None = None,
    context: ssl.SSLContext | None = None,
    shutdown_s: float = 60,
) -> AsyncIterator[Door]:
    """Serve `app`, by TLS with a `context`, while the block lasts. What is under way at its end is answered.

    Raises:
        OSError: the address is taken, or is none of this machine's.
    """

    @web.middleware
    async def watch(request: web.Request, handler: _Handler) -> web.StreamResponse:
        return await door.watch_requests(request, handler)

    runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_s)
    door = app[DOOR] = Door(runner, limits or DoorLimits(), context)
    app.middlewares.insert(0, watch)
    await runner.setup()
    try:
        door.open(host, port)
        yield door
    finally:
        await door.close()
        await runner.cleanup()


def _now() -> float:
    return asyncio.get_running_loop().time()
