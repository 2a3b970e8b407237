"""One call to QPay: guarded by a breaker, carrying the token, resent once when it was the token QPay refused."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from tulbur.core.session import SECOND
from tulbur.errors import ProviderRefused, ProviderUnavailable, StoreUnavailable
from tulbur.ports import Clock, StoredToken
from tulbur.qpay import wire
from tulbur.qpay.breaker import Breaker
from tulbur.qpay.reading import Unreadable
from tulbur.qpay.token import Sleep, Tokens, TokenStore, login_key
from tulbur.qpay.transport import Timeouts, Transport

T = TypeVar("T")

Observer = Callable[[str, str, float], None]
"""Told (operation, result, seconds) of every request; results: ok, refused, unavailable, abandoned, skipped.

Operations: token, invoice_create, invoice_get, invoice_cancel, payment_get, payment_check, payment_list. "abandoned":
whoever asked gave up first; "skipped": a breaker was open, nothing was sent.
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent to `path` behind `/v2/`; `body` becomes JSON."""

    operation: str
    method: str
    path: str
    body: Mapping[str, object] | None = None


class Caller:
    """Everything a request needs that is the same for all of them."""

    def __init__(
        self,
        base_url: str,
        username: str,
        password: str,
        *,
        store: TokenStore,
        clock: Clock,
        sleep: Sleep,
        timeouts: Timeouts,
        on_request: Observer,
        owner: str,
    ) -> None:
        self._basic = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        self._clock = clock
        self._timeouts = timeouts
        self._on_request = on_request
        self._transport = Transport(base_url, timeouts)
        self._tokens = Tokens(
            login_key(self._transport.base_url, username),
            store=store,
            log_in=self._log_in,
            clock=clock,
            sleep=sleep,
            owner=owner,
        )

    async def start(self) -> None:
        await self._transport.start()

    async def stop(self) -> None:
        await self._tokens.stop()
        await self._transport.stop()

    async def login(self) -> None:
        """Make sure there is a live token; raises as `ask` does."""
        try:
            await self._tokens.current()
        except StoreUnavailable:
            raise _without_store() from None

    async def ask(
        self, breaker: Breaker, request: Request, read: Callable[[object], T], *, seconds: float, whole: float
    ) -> T:
        """Send the request and read QPay's success.

        Args:
            breaker: of this class of operations.
            request: what to send.
            read: makes sense of the JSON; raises Unreadable.
            seconds: longest time for one exchange.
            whole: longest time with the login, the resend, and the wait for another question's try.

        Raises:
            ProviderRefused: QPay said no, with a key.
            ProviderUnavailable: there was no answer that can be read, or nothing was sent.
        """
        deadline = asyncio.get_running_loop().time() + whole
        try:
            async with asyncio.timeout_at(deadline):
                await breaker.turn()
        except TimeoutError:
            self._on_request(request.operation, "skipped", 0.0)
            raise ProviderUnavailable("QPay has not been answering; another question waits for it") from None
        if not breaker.may_ask():
            self._on_request(request.operation, "skipped", 0.0)
        try:
            with breaker.guard():
                try:
                    async with asyncio.timeout_at(deadline):
                        return await self._authorized(request, read, seconds)
                except TimeoutError:
                    raise ProviderUnavailable(f"QPay did not answer within {whole:g} s") from None
        except StoreUnavailable:  # says nothing about QPay, so the breaker did not count it
            raise _without_store() from None

    async def _authorized(self, request: Request, read: Callable[[object], T], seconds: float) -> T:
        token = await self._tokens.current()
        try:
            return await self._once(request, read, token, seconds)
        except ProviderRefused as refused:
            if refused.provider_status != 401 or refused.key != wire.NO_CREDENTIALS:
                raise
        return await self._once(request, read, await self._tokens.after_rejection(token), seconds)

    async def _once(self, request: Request, read: Callable[[object], T], token: str, seconds: float) -> T:
        with self._observed(request.operation):
            answer = await self._transport.send(
                request.method, request.path, authorization=f"Bearer {token}", seconds=seconds, body=request.body
            )
            return read(answer)

    async def _log_in(self) -> StoredToken:
        with self._observed("token"):
            answer = await self._transport.send(
                "POST", "auth/token", authorization=self._basic, seconds=self._timeouts.token
            )
            return wire.token(answer, self._clock())

    @contextmanager
    def _observed(self, operation: str) -> Iterator[None]:
        """Tell the observer how one request ended; an answer that makes no sense is none."""
        started, result = self._clock(), "abandoned"
        try:
            yield
            result = "ok"
        except Unreadable as unreadable:
            result = "unavailable"
            raise ProviderUnavailable(f"QPay's answer makes no sense: {unreadable}") from None
        except ProviderRefused:
            result = "refused"
            raise
        except ProviderUnavailable:
            result = "unavailable"
            raise
        finally:
            self._on_request(operation, result, (self._clock() - started) / SECOND)


def _without_store() -> ProviderUnavailable:
    return ProviderUnavailable("the database is down, and without it nobody logs in to QPay")
