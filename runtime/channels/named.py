"""Connecting to a job's server by the name in its certificate, wherever the untrusted host says that it is.

The URL names the role, so that TLS checks the name; the address only says where to dial.
"""

import ipaddress
import socket
import ssl

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from chiron.runtime.channels.keep_alive import watched_socket

_KEPT_S = 3600.0


def named_url(name: str, address: str) -> str:
    """URL of the server `name` that listens at `address` (host:port)."""
    return f"https://{name}:{address.rpartition(':')[2]}"


def named_connector(context: ssl.SSLContext, address: str) -> TCPConnector:
    """A connector to `address` (host:port), whatever name a URL has."""
    return TCPConnector(
        ssl=context,
        limit=8,
        resolver=_At(address.rpartition(":")[0].strip("[]")),
        socket_factory=watched_socket,
        # Kept open however long we compute: a new connection would tell the host that it took long.
        keepalive_timeout=_KEPT_S,
    )


class _At(AbstractResolver):
    """Finds every name at one host."""

    def __init__(self, host: str) -> None:
        self._host = host

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See `AbstractResolver.resolve`."""
        try:
            version = ipaddress.ip_address(self._host).version
        except ValueError:
            return await DefaultResolver().resolve(self._host, port, family)
        found = socket.AF_INET if version == 4 else socket.AF_INET6
        return [
            ResolveResult(
                hostname=host,
                host=self._host,
                port=port,
                family=found,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """See `AbstractResolver.close`."""
