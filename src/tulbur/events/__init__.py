"""Tells the shop: one event, one signed POST to WEBHOOK_URL, bounded in time and size, and never led elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from tulbur.core.session import SECOND
from tulbur.events import message
from tulbur.events.addresses import Forbidden, guarded
from tulbur.ports import Clock, Delivery, NumberedEvent, Outcome

__all__ = ["Webhook"]

TOTAL_SECONDS: Final = 15.0
"""How long the shop may take to answer, connecting included."""

CONNECT_SECONDS: Final = 5.0
MOST_CONNECTIONS: Final = 32
KEEP_ALIVE_SECONDS: Final = 15

MOST_BYTES: Final = 64 * 1024
"""Of an answer that nobody reads so much is taken, so that its connection can be used again."""

DRAIN_SECONDS: Final = 1.0
"""And for so long; the status has been heard before."""

Told: TypeAlias = Callable[[str, float], None]
"""Hears the outcome of a delivery, and the seconds it took."""


class Webhook:
    """The shop behind one address; a `ports.Shop`. Every key signs, so that either side may change it first.

    `resolver` looks names up, the system's own way where it is None.
    """

    def __init__(
        self,
        url: str,
        keys: Sequence[bytes],
        clock: Clock,
        *,
        allow_private: bool = False,
        on_delivery: Told | None = None,
        total_seconds: float = TOTAL_SECONDS,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._url = URL(url)
        self._keys = tuple(keys)
        self._clock = clock
        self._allow_private = allow_private
        self._told = on_delivery
        self._timeout = aiohttp.ClientTimeout(total=total_seconds, connect=CONNECT_SECONDS)
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        if self._session is not None:
            return
        connector = aiohttp.TCPConnector(
            limit=MOST_CONNECTIONS,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            use_dns_cache=False,
            resolver=self._resolver,
            socket_factory=guarded(allow_private=self._allow_private),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": "tulbur"},
        )

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def deliver(self, numbered: NumberedEvent) -> Delivery:
        if self._session is None:
            raise RuntimeError("start() the webhook first")
        content = message.body(numbered)
        signed = message.headers(numbered.event.id, content, self._keys, self._clock())
        started = time.monotonic()
        delivery = await self._sent(self._session, content, signed)
        if self._told is not None:
            self._told(delivery.outcome.value, time.monotonic() - started)
        return delivery

    async def _sent(self, session: aiohttp.ClientSession, content: bytes, signed: Mapping[str, str]) -> Delivery:
        try:
            async with session.post(
                self._url, data=content, headers=signed, timeout=self._timeout, allow_redirects=False
            ) as response:
                delivery = self._understood(response)
                await _drained(response)
                return delivery
        except TimeoutError:
            return Delivery(Outcome.TIMEOUT)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a ValueError is a name no DNS could have
            return Delivery(Outcome.FORBIDDEN if _is_forbidden(error) else Outcome.UNREACHABLE)

    def _understood(self, response: aiohttp.ClientResponse) -> Delivery:
        status = response.status
        if 200 <= status < 300:
            return Delivery(Outcome.DELIVERED, status)
        if 300 <= status < 400:
            return Delivery(Outcome.REDIRECTED, status)
        return Delivery(Outcome.REFUSED, status, self._asked_seconds(response.headers.get("Retry-After", "")))

    def _asked_seconds(self, text: str) -> float:
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._clock() / SECOND)
        except (ValueError, OverflowError):
            return 0.0


async def _drained(response: aiohttp.ClientResponse) -> None:
    """Take what is left of an answer, if that is little and comes at once; else the connection goes."""
    taken = 0
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in response.content.iter_any():
                taken += len(chunk)
                if taken > MOST_BYTES:
                    break
            else:
                return
    response.close()


def _is_forbidden(error: BaseException) -> bool:
    """Whether this, or what led to it, is ours; the client wraps it, several times where a name has many addresses."""
    if isinstance(error, BaseExceptionGroup):
        return any(_is_forbidden(one) for one in error.exceptions)
    if isinstance(error, Forbidden):
        return True
    below = getattr(error, "os_error", None) or error.__cause__
    return below is not None and below is not error and _is_forbidden(below)
