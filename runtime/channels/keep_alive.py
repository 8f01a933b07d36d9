"""Sockets that notice a dead peer: else a trainer could wait for ever on a half-open connection."""

import socket
from contextlib import suppress
from typing import Any

IDLE_S = 15
INTERVAL_S = 5
PROBES = 4
"""A peer that is silent for `IDLE_S + PROBES * INTERVAL_S` seconds is taken for dead."""
UNACKNOWLEDGED_MS = 40_000


def watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket for aiohttp's connector, with TCP keep-alive."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    # A library OS need not know every option; the exchange's own deadlines still hold there.
    with suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
    return made
