"""Whether a host can be reached at all, before a driver is asked: each way in which it cannot has its own remedy."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from tulbur.errors import StoreUnavailable

CONNECT_SECONDS: Final = 3.0
"""How long a host may take to accept a connection."""

MOST_HOSTS: Final = 7
"""Hosts of one address that are tried."""

Host: TypeAlias = tuple[str, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why nobody can be reached there; `remedy` names the variable."""

    detail: str
    remedy: str


def hosts_of(url: str, port: int) -> Sequence[Host]:
    """The hosts of a database's or cache's URL; none where it names a socket's file, or cannot be read for sure."""
    netloc, _, rest = url.partition("://")[2].partition("/")
    if "@" in rest or "?" in netloc or "#" in netloc:
        return ()  # A password with a / in it would be shown as a host.
    found = []
    for part in netloc.rpartition("@")[2].split(",")[:MOST_HOSTS]:
        name, given = _split(part)
        if not name or name.startswith(("/", "%2F", "%2f")) or not (given or "1").isdigit():
            return ()
        found.append((name, int(given or port)))
    return found


def _split(part: str) -> tuple[str, str]:
    if part.startswith("["):
        name, _, rest = part[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, given = part.partition(":")
    return name, given


async def reach(hosts: Sequence[Host], variable: str, *, seconds: float = CONNECT_SECONDS) -> Trouble | None:
    """None when one of the hosts takes a connection, or none is named; else what is wrong with the first."""
    tried = await asyncio.gather(*(_tried(name, port, variable, seconds) for name, port in hosts))
    return tried[0] if tried and all(tried) else None


async def _tried(name: str, port: int, variable: str, seconds: float) -> Trouble | None:
    where = f"{name}:{port}"
    try:
        async with asyncio.timeout(seconds):
            addresses = await aside(lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM), seconds)
            await _connected([str(found[4][0]) for found in addresses], port)
    except socket.gaierror as unknown:
        detail = f"the name {name} cannot be looked up ({unknown.strerror})"
        return Trouble(detail, f"correct the host in {variable}, or this machine's name service (DNS)")
    except UnicodeError:
        return Trouble(f"{name} is no host's name", f"correct the host in {variable}")
    except TimeoutError:
        remedy = f"let this machine through the firewall (or access list) in front of it, or correct {variable}"
        return Trouble(f"{where} does not answer within {seconds:g} s", remedy)
    except ConnectionRefusedError:
        detail = f"nothing listens on {where} (connection refused)"
        return Trouble(detail, f"start it, or correct host and port in {variable}")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        return Trouble(f"{where} cannot be reached ({reason})", f"check this machine's network, or correct {variable}")
    return None


async def _connected(addresses: Sequence[str], port: int) -> None:
    failed: OSError | None = None
    for address in addresses:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError as error:
            failed = failed or error
        else:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            return
    raise failed or ConnectionRefusedError


async def aside(work: Callable[[], T], seconds: float) -> T:
    """Run blocking work in a thread that nobody waits for at the end, should it hang.

    Raises:
        StoreUnavailable: it was not done in time.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[], None]) -> None:
        if not done.done():
            set_it()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            failed = error
            tell = lambda: settle(lambda: done.set_exception(failed))  # noqa: E731
        else:
            tell = lambda: settle(lambda: done.set_result(result))  # noqa: E731
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=run, name="tulbur-doctor", daemon=True).start()
    try:
        async with asyncio.timeout(seconds):
            return await done
    except TimeoutError:
        if done.done():
            raise
        raise StoreUnavailable(f"no answer within {seconds:g} s") from None
