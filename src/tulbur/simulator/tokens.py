"""Logins and their tokens: epoch expiries, rotation, and one live token per login.

Source: QPay workbook, "auth_token" and "auth_refresh", and bodies seen in QPay's sandbox.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tulbur.simulator.errors import refusal

if TYPE_CHECKING:
    from tulbur.simulator.faults import TokenFaults
    from tulbur.simulator.ids import Ids

LOGIN_PREFIX = "TEST_"
PASSWORD = "123456"  # noqa: S105  (QPay's published sandbox password)
LOGIN_CHARACTERS = 45
MAX_LOGINS = 10_000
# Without `single`, a client that logs in for every call must not fill the memory.
SESSIONS_PER_LOGIN = 100
_REFRESH_SURPLUS_SECONDS = 14_400


@dataclass(frozen=True, slots=True)
class Merchant:
    """Who a login is; `merchant_id` depends on the login alone, so it survives a restart."""

    login: str
    client_id: str
    merchant_id: str


@dataclass(frozen=True, slots=True)
class Session:
    merchant: Merchant
    access_token: str
    refresh_token: str
    expires_at: int


@dataclass(slots=True)
class _Account:
    merchant: Merchant
    sessions: list[Session] = field(default_factory=list)


def _segment(value: dict[str, Any] | bytes) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign_jwt(claims: dict[str, Any], key: bytes) -> str:
    """A compact HS256 JWT."""
    head = f"{_segment({'alg': 'HS256', 'typ': 'JWT'})}.{_segment(claims)}"
    return f"{head}.{_segment(hmac.digest(key, head.encode(), hashlib.sha256))}"


def basic_login(header: str | None) -> str:
    """The login of a Basic header whose password is right; else AUTHENTICATION_FAILED."""
    scheme, _, value = (header or "").partition(" ")
    try:
        login, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise refusal("AUTHENTICATION_FAILED") from None
    known = login.startswith(LOGIN_PREFIX) and len(login) <= LOGIN_CHARACTERS and login.isprintable()
    if scheme.lower() != "basic" or not known or password != PASSWORD:
        raise refusal("AUTHENTICATION_FAILED")
    return login


def bearer(header: str | None) -> str:
    scheme, _, value = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise refusal("NO_CREDENTIALS")
    return value.strip()


class TokenBook:
    """Every login's live sessions."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._key = ids.key()
        self._accounts: dict[str, _Account] = {}
        self._by_access: dict[str, Session] = {}
        self._by_refresh: dict[str, Session] = {}

    def log_in(self, header: str | None, faults: TokenFaults, now: float) -> Session:
        account = self._account(basic_login(header))
        return self._issue(account, faults, now)

    def refresh(self, header: str | None, faults: TokenFaults, now: float) -> Session:
        """A new pair for a live refresh token, which is used up by this."""
        session = self._by_refresh.get(bearer(header))
        if session is None or session.expires_at <= now:
            raise refusal("NO_CREDENTIALS")
        del self._by_refresh[session.refresh_token]
        return self._issue(self._accounts[session.merchant.login], faults, now)

    def merchant(self, header: str | None, now: float) -> Merchant:
        """Who holds this access token; NO_CREDENTIALS when nobody does any more."""
        session = self._by_access.get(bearer(header))
        if session is None or session.expires_at <= now:
            raise refusal("NO_CREDENTIALS")
        return session.merchant

    def revoke(self) -> None:
        """End every session of every login."""
        for account in self._accounts.values():
            self._drop(account, keep=0)

    def _account(self, login: str) -> _Account:
        if login not in self._accounts:
            if len(self._accounts) >= MAX_LOGINS:
                raise refusal("SYSTEM_BUSY", f"The simulator holds its limit of {MAX_LOGINS} logins.")
            merchant_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"tulbur.simulator/{login}"))
            self._accounts[login] = _Account(Merchant(login, self._ids.uuid(), merchant_id))
        return self._accounts[login]

    def _issue(self, account: _Account, faults: TokenFaults, now: float) -> Session:
        session = self._session(account.merchant, int(now), faults.lifetime_seconds)
        self._drop(account, keep=0 if faults.single else SESSIONS_PER_LOGIN - 1)
        account.sessions.append(session)
        self._by_access[session.access_token] = session
        self._by_refresh[session.refresh_token] = session
        return session

    def _drop(self, account: _Account, *, keep: int) -> None:
        while len(account.sessions) > keep:
            old = account.sessions.pop(0)
            self._by_access.pop(old.access_token, None)
            self._by_refresh.pop(old.refresh_token, None)

    def _session(self, merchant: Merchant, issued: int, lifetime_seconds: int) -> Session:
        expires = issued + lifetime_seconds
        # QPay adds the epoch expiry to `iat`, which lands decades ahead; clients must not read `exp`.
        access = {
            "client_id": merchant.client_id,
            "merchant_id": merchant.merchant_id,
            "v1_merchant_flag": False,
            "session_id": self._ids.token(32),
            "iat": issued,
            "exp": issued + expires,
        }
        refresh = {
            "id": merchant.client_id,
            "session_secret": self._ids.secret(),
            "extra": {},
            "iat": issued,
            "exp": issued + expires + _REFRESH_SURPLUS_SECONDS,
        }
        return Session(merchant, sign_jwt(access, self._key), sign_jwt(refresh, self._key), expires)
