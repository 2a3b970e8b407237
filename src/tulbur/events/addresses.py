"""Which addresses an event may be sent to: those of the internet, unless private ones are allowed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from aiohttp import AddrInfoType

Address: TypeAlias = IPv4Address | IPv6Address

METADATA: Final = frozenset(
    ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
"""Where clouds tell their machines' secrets, as far as that is not link-local; one of them is a public address."""

_CARRIES_IPV4: Final = (
    IPv6Network("::/96"),
    IPv6Network("::ffff:0:0:0/96"),
    IPv6Network("64:ff9b::/96"),
    IPv6Network("64:ff9b:1::/48"),
)
"""Prefixes whose last 32 bits are an IPv4 address that a gateway or the system itself may go to."""


class Forbidden(OSError):
    """The shop's name leads to an address that events are not sent to."""


def is_forbidden(text: str, *, allow_private: bool) -> bool:
    """Whether events must not go to this address; link-local ones and clouds' metadata never are a shop."""
    try:
        address = _meant(ip_address(text))
    except ValueError:
        return True
    if address.is_link_local or address.is_multicast or address.is_unspecified or address in METADATA:
        return True
    if allow_private:
        return False
    return not address.is_global or (isinstance(address, IPv6Address) and address.is_site_local)


def guarded(*, allow_private: bool) -> Callable[[AddrInfoType], socket.socket]:
    """Makes the sockets of a client, for allowed addresses alone.

    It sees the very address that is connected to, so that no name, however it is written or answered the next time it
    is looked up, leads past it.
    """

    def make(found: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, where = found
        if is_forbidden(str(where[0]), allow_private=allow_private):
            raise Forbidden("not an address that events are sent to")
        return socket.socket(family, kind, protocol)

    return make


def _meant(address: Address) -> Address:
    """The IPv4 address within an IPv6 one that stands for it."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    inside = any(address in network for network in _CARRIES_IPV4)
    # `::` and `::1` are addresses of their own.
    return IPv4Address(int(address) & 0xFFFFFFFF) if inside and int(address) > 1 else address
