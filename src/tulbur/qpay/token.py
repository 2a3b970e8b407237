"""The token: QPay keeps one alive per login, so every process of a shop shares it through the store.

Logging in kills the token everybody else holds. Hence a lease in the store is taken first, the store is read again
under it, and the new token is stored before the lease is given up. Without the store nobody logs in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, Protocol

from tulbur.core.session import SECOND, Micros
from tulbur.errors import ProviderError, ProviderRefused, ProviderUnavailable, StoreUnavailable
from tulbur.ports import Clock, StoredToken

EARLY_SECONDS: Final = 60
"""A token is renewed this long before its end."""

SPARED_SECONDS: Final = 10
"""After a renewal failed, a token that still lives is used for this long before the next try."""

MOST_REJECTED: Final = 8
"""Tokens remembered because QPay rejected them."""

LEASE_SECONDS: Final = 20
"""Longer than the longest login, so that no other process logs in beside it."""

PAUSE_SECONDS: Final = 0.25
MOST_PAUSES: Final = 48
"""How often, and how many times, a process looks whether another one has finished logging in: 12 s in all."""

REFUSED_SECONDS: Final = 30
"""After QPay refused the login it is not tried again for this long; a wrong password does not become right."""

BAD_LOGIN: Final = "AUTHENTICATION_FAILED"
_BAD_LOGIN_TEXT: Final = (
    "QPay does not accept this user name and password; check QPAY_USERNAME and QPAY_PASSWORD, which differ between "
    "QPay's sandbox and production"
)

Sleep = Callable[[float], Awaitable[None]]


class TokenStore(Protocol):
    """The part of the store that the token needs."""

    async def lease(self, name: str, owner: str, seconds: float) -> bool: ...

    async def token_get(self, login: str) -> StoredToken | None: ...

    async def token_put(self, login: str, token: StoredToken) -> None: ...


def login_key(base_url: str, username: str) -> str:
    """Names a login in the store without telling it."""
    return sha256(f"{base_url}\n{username}".encode()).hexdigest()[:32]


class Tokens:
    """The live token of one login, for all tasks of this process.

    Args:
        login: names the login in the store, see `login_key`.
        store: where all processes share the token and take the lease.
        log_in: asks QPay for a token; raises ProviderUnavailable or ProviderRefused.
        clock: the time now.
        sleep: waits for a number of seconds.
        owner: names this process in the lease.
    """

    def __init__(
        self,
        login: str,
        *,
        store: TokenStore,
        log_in: Callable[[], Awaitable[StoredToken]],
        clock: Clock,
        sleep: Sleep,
        owner: str,
    ) -> None:
        self._login = login
        self._store = store
        self._log_in = log_in
        self._clock = clock
        self._sleep = sleep
        self._owner = owner
        self._held: StoredToken | None = None
        self._rejected: deque[str] = deque(maxlen=MOST_REJECTED)
        self._flight: asyncio.Task[StoredToken] | None = None
        self._spared_until: Micros = 0
        self._refused_until: Micros = 0

    async def current(self) -> str:
        """A live access token.

        Raises:
            StoreUnavailable: the store is down and there is no token in memory.
            ProviderUnavailable: QPay, or the process that is logging in, did not answer.
            ProviderRefused: QPay does not accept the login.
        """
        held = self._held
        if held is not None and (self._is_fresh(held) or self._clock() < self._spared_until):
            return held.access_token
        return await self._renewed()

    async def after_rejection(self, access_token: str) -> str:
        """Another token than this one, which QPay just rejected; raises as `current` does."""
        if self._held is None or self._held.access_token == access_token:
            self._held = None
            self._rejected.append(access_token)
        return await self.current()

    async def stop(self) -> None:
        """Abandon a login under way; its lease is given up."""
        flight, self._flight = self._flight, None
        if flight is not None and flight.cancel():
            await asyncio.wait([flight])

    async def _renewed(self) -> str:
        """One renewal for all who wait; it goes on when one of them gives up."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._renew())
            self._flight.add_done_callback(_looked_at)
        try:
            return (await asyncio.shield(self._flight)).access_token
        except ProviderUnavailable as shared:  # each caller gets an error of its own to write on
            failure: Exception = ProviderUnavailable(shared.message)
        except ProviderRefused as shared:
            failure = ProviderRefused(shared.key, _refusal_text(shared.key), provider_status=shared.provider_status)
        raise failure

    async def _renew(self) -> StoredToken:
        try:
            found = await self._stored() or await self._agreed()
        except StoreUnavailable:
            if self._held is None:
                raise
            return self._held
        except ProviderError:
            if self._held is None or self._held.expires_at <= self._clock():
                raise
            self._spared_until = self._clock() + SPARED_SECONDS * SECOND
            return self._held
        self._held = found
        return found

    async def _agreed(self) -> StoredToken:
        """Log in, or wait for the process that does."""
        for _ in range(MOST_PAUSES):
            if await self._store.lease(self._lease, self._owner, LEASE_SECONDS):
                try:
                    return await self._stored() or await self._logged_in()
                finally:
                    # A lease that cannot be given up ends by itself.
                    with contextlib.suppress(StoreUnavailable):
                        await self._store.lease(self._lease, self._owner, 0)
            await self._sleep(PAUSE_SECONDS)
            if found := await self._stored():
                return found
        raise ProviderUnavailable("another process is logging in to QPay and does not finish")

    async def _logged_in(self) -> StoredToken:
        if self._clock() < self._refused_until:
            raise ProviderRefused(BAD_LOGIN, _BAD_LOGIN_TEXT, provider_status=401)
        try:
            new = await self._log_in()
        except ProviderRefused:
            self._refused_until = self._clock() + REFUSED_SECONDS * SECOND
            raise
        self._refused_until = 0
        if new.access_token in self._rejected:
            self._rejected.remove(new.access_token)
        with contextlib.suppress(StoreUnavailable):  # it serves this process; the others will find it dead and log in
            # Whoever was stopped while logging in may come back after another login, which has killed this token.
            stored = await self._store.token_get(self._login)
            if stored is not None and stored.expires_at > new.expires_at and self._is_fresh(stored):
                return stored
            await self._store.token_put(self._login, new)
        return new

    async def _stored(self) -> StoredToken | None:
        found = await self._store.token_get(self._login)
        return found if found is not None and self._is_fresh(found) else None

    @property
    def _lease(self) -> str:
        return f"qpay-login:{self._login}"

    def _is_fresh(self, token: StoredToken) -> bool:
        lives = token.expires_at - EARLY_SECONDS * SECOND > self._clock()
        return lives and token.access_token not in self._rejected


def _refusal_text(key: str) -> str:
    return _BAD_LOGIN_TEXT if key == BAD_LOGIN else "on logging in"


def _looked_at(flight: asyncio.Task[StoredToken]) -> None:
    # Everybody who waited may have given up; asyncio would then complain that nobody saw the error.
    if not flight.cancelled():
        flight.exception()
