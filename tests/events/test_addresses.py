"""Where events may go: every way of writing an address of this machine or its network is that address."""

from __future__ import annotations

import socket

import pytest

from tulbur.events.addresses import Forbidden, guarded, is_forbidden

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.254",
    "0.1.2.3",
    "198.18.0.1",
    "192.0.2.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "fd00::1",
    "fc00::1",
    "fec0::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "2002:7f00:1::",
    "2002:c0a8:101::1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "::ffff:0:7f00:1",
]

NEVER = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "::ffff:0:a9fe:a9fe",
    "fe80::1",
    "fe80::1%1",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",  # noqa: S104 - compared, not bound
    "::",
    "224.0.0.1",
    "ff02::1",
    "not an address",
    "",
]

PUBLIC = ["8.8.8.8", "1.1.1.1", "203.91.112.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_unless_allowed(address: str) -> None:
    assert is_forbidden(address, allow_private=False)
    assert not is_forbidden(address, allow_private=True) or address == "255.255.255.255"


@pytest.mark.parametrize("address", NEVER)
def test_these_are_always_refused(address: str) -> None:
    assert is_forbidden(address, allow_private=False)
    assert is_forbidden(address, allow_private=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_internet_is_not(address: str) -> None:
    assert not is_forbidden(address, allow_private=False)


def test_the_socket_is_not_even_made() -> None:
    where = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))
    with pytest.raises(Forbidden):
        guarded(allow_private=False)(where)
    guarded(allow_private=True)(where).close()


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "0"])
def test_a_number_is_judged_as_the_system_reads_it(host: str) -> None:
    [family, kind, protocol, name, where] = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)[0]
    with pytest.raises(Forbidden):
        guarded(allow_private=False)((family, kind, protocol, name, where))
