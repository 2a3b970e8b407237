"""QPay: whether the login works and is ours alone, and whether its clock agrees with this machine's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from tulbur.commands.doctor.database import CLOCK_SECONDS
from tulbur.commands.doctor.finding import Finding, fine, problem, remark
from tulbur.commands.doctor.reaching import reach
from tulbur.errors import ProviderError, ProviderRefused, SettingsError
from tulbur.ports import StoredToken
from tulbur.qpay.client import QPay
from tulbur.qpay.token import BAD_LOGIN, TokenStore
from tulbur.qpay.transport import Timeouts
from tulbur.qpay.wire import NO_CREDENTIALS
from tulbur.settings import Required, Settings
from tulbur.wiring import now

TIMEOUT_SECONDS: Final = 5
_TIMEOUTS: Final = Timeouts(token=TIMEOUT_SECONDS, question=TIMEOUT_SECONDS, connect=3, read=TIMEOUT_SECONDS)

NOBODYS: Final = "00000000-0000-0000-0000-000000000000"
"""An invoice that does not exist: asking for it tells whether the token is taken, and nothing else."""

_OWN_LOGIN: Final = "ask QPay for a login of tulbur's own, or stop the other system"
_WHERE: Final = "correct QPAY_BASE_URL: that is another program, or a page in between"


class _Watched:
    """A store of tokens that tells whether a new one was put there."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self.logged_in = False

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        return await self._store.lease(name, owner, seconds)

    async def token_get(self, login: str) -> StoredToken | None:
        return await self._store.token_get(login)

    async def token_put(self, login: str, token: StoredToken) -> None:
        self.logged_in = True
        await self._store.token_put(login, token)


async def login(required: Required, store: TokenStore | None) -> Finding:
    """Use the stored token, or log in. Without the store nobody logs in: that would end the token others use."""
    trouble = await reach(_hosts(required.qpay_base_url), "QPAY_BASE_URL")
    if trouble is not None:
        return problem("qpay login", f"QPay: {trouble.detail}", trouble.remedy)
    if store is None:
        detail = "not tried: without the database a login would end the token that the running service uses"
        return remark("qpay login", detail, "run tulbur doctor again when the database answers")
    tokens = _Watched(store)
    try:
        qpay = _client(required, tokens)
    except SettingsError as wrong:
        return problem("qpay login", wrong.message, "correct these settings")
    try:
        await qpay.start()
        await qpay.login()
        lived = not tokens.logged_in
        if lived:
            await _asked(qpay)
    except ProviderRefused as refused:
        return _refused(refused)
    except ProviderError as silent:
        remedy = _WHERE if "not JSON" in silent.message or "makes no sense" in silent.message else ""
        return problem("qpay login", silent.message, remedy or "wait, or ask QPay: it answers, but not as it should")
    finally:
        await qpay.stop()
    return _logged_in(required, lived=lived, ended=lived and tokens.logged_in)


async def _asked(qpay: QPay) -> None:
    """Use the token once; any refusal but of the token itself shows that it was taken."""
    try:
        await qpay.get_invoice(NOBODYS)
    except ProviderRefused as refused:
        if refused.key in (BAD_LOGIN, NO_CREDENTIALS):
            raise


def _client(required: Required, tokens: TokenStore) -> QPay:
    return QPay(
        required.qpay_base_url,
        required.qpay_username,
        required.qpay_password,
        required.qpay_invoice_code,
        store=tokens,
        clock=now,
        timeouts=_TIMEOUTS,
    )


def _refused(refused: ProviderRefused) -> Finding:
    if refused.key == BAD_LOGIN:
        remedy = "correct QPAY_USERNAME and QPAY_PASSWORD; credentials differ between sandbox and production"
        return problem("qpay login", refused.message, remedy)
    if refused.key.startswith("HTTP_"):
        return problem("qpay login", refused.message, _WHERE)
    return problem("qpay login", refused.message, "ask QPay what this login may do")


def _logged_in(required: Required, *, lived: bool, ended: bool) -> Finding:
    if ended:
        detail = "QPay refused the stored token before its time: another system logs in with QPAY_USERNAME"
        return problem("qpay login", detail, f"{_OWN_LOGIN}; each login ends the other's token")
    # Another login would end the token that the running service uses.
    untried = "; a token of an earlier login still lives, the password was not tried" if lived else ""
    return fine("qpay login", f"{required.qpay_username} at {required.qpay_base_url}{untried}")


def shared(settings: Settings, old_keys: int) -> Iterator[Finding]:
    """What hints at an old shop that works on the same login; QPay keeps one token alive for each."""
    if not old_keys and settings.seed_api != "on":
        return
    seen = f"{old_keys} sessions of the old shop's are in REDIS_URL" if old_keys else "SEED_API is on"
    detail = f"{seen}: an old shop on the same QPay login and tulbur would end each other's token"
    yield remark("qpay login", detail, _OWN_LOGIN)


async def clock(required: Required) -> Finding:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.head(required.qpay_base_url, allow_redirects=False) as answer,
        ):
            theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        detail = f"{required.qpay_base_url} does not answer ({type(error).__name__}), so its time is not known"
        return problem("clock", detail, "check QPAY_BASE_URL and the network")
    except (KeyError, ValueError):
        return fine("clock", "QPay tells no time to compare with")
    apart = time.time() - theirs
    if abs(apart) > CLOCK_SECONDS:
        remedy = "synchronise this machine's clock (chrony, systemd-timesyncd)"
        return problem("clock", f"{apart:+.0f} s from QPay's", remedy)
    return fine("clock", f"within {CLOCK_SECONDS} s of QPay's")


def _hosts(address: str) -> list[tuple[str, int]]:
    parts = urlsplit(address)
    return [(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))]
