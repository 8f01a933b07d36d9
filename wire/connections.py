"""Connections of strangers at a door: how many, how long each may take, and when one is over its time."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from chiron.wire.networks import Network


@dataclass(frozen=True)
class DoorLimits:
    """Connections of strangers, and how long each may take, in seconds."""

    connections: int = 256
    connections_per_address: int = 96
    handshake_s: float = 10
    header_s: float = 15
    """From the handshake to a whole first request's header."""
    idle_s: float = 75
    """Between two requests, and for a peer that reads nothing of its answer."""
    body_s: float = 30
    """Reading a stranger's whole body."""
    body_bytes: int = 128 * 2**20
    """Of all strangers' bodies that are being read."""
    proxies: tuple[Network, ...] = ()
    """Through these come many, who have places in all, and none by address."""


@dataclass(eq=False)
class Connection:
    """One connection, from its acceptance to its end."""

    handler: web.RequestHandler
    network: str
    since: float
    """When what it is waiting for began."""
    allowed_s: float
    transport: asyncio.Transport | None = None
    task: "asyncio.Task[None] | None" = None
    asked: bool = False
    """A request of it is under way."""
    kept: bool = False
    """That request was read, and is being answered."""
    member: bool = False
    sent: int = 0
    """Bytes of a body that is being read."""
    unread: int = 0
    """Bytes of its answer that its peer had not taken when last looked at."""

    def close(self) -> None:
        """End it at once, in its handshake too."""
        if self.transport is not None:
            self.transport.abort()
        elif self.task is not None:
            self.task.cancel()

    def is_late(self, now: float, stalled_s: float) -> bool:
        """Whether it is over its time; its peer has `stalled_s` to take something of an answer."""
        if self.transport is None:
            return False  # The handshake has its own deadline.
        unread = self.transport.get_write_buffer_size()
        if unread:
            if unread != self.unread:
                self.unread, self.since = unread, now
            return now - self.since > stalled_s
        if self.unread:
            self.unread, self.since = 0, now
        return not self.asked and now - self.since > self.allowed_s
