"""Addresses of strangers: whom each is counted with, and what a proxy says of them."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_IPV6_HOST_BITS = 64
"""Who has one IPv6 address has this many bits of them."""


def network_of(host: str) -> str:
    """Whom an address is counted with: itself, or all of its network where it has that to choose from."""
    address = _parsed(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), 128 - _IPV6_HOST_BITS), strict=False))
    return host if address is None else str(address)


def belongs(host: str, networks: Iterable[Network]) -> bool:
    """Whether an address is in one of these networks."""
    address = _parsed(host)
    return address is not None and any(address in network for network in networks)


def forwarded_for(peer: str, said: Sequence[str], proxies: Sequence[Network]) -> str:
    """Who a request is from: `peer`, or whom a proxy that is trusted speaks for.

    Each proxy appends whom it heard the request from to X-Forwarded-For (`said`), so it is read from its end,
    and only as far as trusted proxies wrote it: what is left of that, anybody can have sent.
    """
    hops = [hop.strip() for line in said for hop in line.split(",")]
    while hops and belongs(peer, proxies):
        hop = _parsed(hops.pop())
        if hop is None:
            break
        peer = str(hop)
    return peer


def _parsed(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
