"""Looks at everything a deployment stands on and says, one line each: ok, or the problem and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from tulbur.commands.doctor_spool import examine_spool
from tulbur.errors import ProviderError, ProviderRefused, SettingsError, StoreUnavailable
from tulbur.ports import Store, StoredToken
from tulbur.qpay.client import QPay
from tulbur.qpay.token import TokenStore
from tulbur.settings import OldShop, Required, Settings, sqlite_path
from tulbur.stores.memory import MemoryStore
from tulbur.stores.sqlite import SqliteStore
from tulbur.wiring import now, open_cache_backend, open_store

TIMEOUT_SECONDS: Final = 5
BUSY_SECONDS: Final = 5.0
"""How long another process may hold the database before that is called a problem."""

SHORTEST_KEY: Final = 32
CLOCK_SECONDS: Final = 30
"""How far our clock may be from QPay's before token expiry and dates of payments are read wrongly."""

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class Finding:
    """One check; `remedy` is "" when it is ok."""

    check: str
    ok: bool
    detail: str
    remedy: str = ""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Every check in turn; the ones that need a missing setting are left out. Nothing is made that was not there."""
    required = None
    try:
        required = settings.required()
    except SettingsError as missing:
        for line in missing.message.splitlines():
            yield _settings_finding("settings", line)
    else:
        yield _secrets(required)
    yield _api_keys(settings)
    for finding in _old_shop(settings):
        yield finding
    findings, store = await _database(settings)
    for finding in findings:
        yield finding
    yield await _cache(settings)
    yield Finding("spool", *await asyncio.to_thread(examine_spool, settings, now()))
    try:
        if required is not None:
            yield await _login(required, store or MemoryStore(now))
            yield await _public_url(required)
            yield await _clock(required)
    finally:
        if store is not None:
            await store.stop()


def _settings_finding(check: str, sentence: str) -> Finding:
    problem, _, remedy = sentence.partition(": ")
    return Finding(check, ok=False, detail=problem, remedy=remedy)


def _secrets(required: Required) -> Finding:
    if any(len(key) < SHORTEST_KEY for key in required.secret_keys):
        return Finding(
            "settings",
            ok=False,
            detail=f"TULBUR_SECRET_KEYS holds a key shorter than {SHORTEST_KEY} characters",
            remedy="put a longer random key first and keep the old one behind it while its callbacks may come",
        )
    return Finding("settings", ok=True, detail="all present")


def _api_keys(settings: Settings) -> Finding:
    try:
        keys = settings.api_keys()
    except SettingsError as wrong:
        return Finding("api keys", ok=False, detail=wrong.message, remedy="make one with: tulbur keys new NAME")
    if not keys:
        remedy = "make one with: tulbur keys new NAME --scopes read+write, and set TULBUR_API_KEYS"
        return Finding("api keys", ok=False, detail="none: every API route answers 401", remedy=remedy)
    return Finding("api keys", ok=True, detail=", ".join(key.name for key in keys))


def _old_shop(settings: Settings) -> Iterator[Finding]:
    """The holes of the old shop's routes, each a finding of its own; nothing while they are off."""
    try:
        old_shop = settings.old_shop()
    except SettingsError as wrong:
        problem, _, remedy = wrong.message.partition(": ")
        yield Finding("seed api", ok=False, detail=problem, remedy=remedy or "correct it")
        return
    if old_shop is None:
        return
    holes = list(_holes(old_shop))
    for detail, remedy in holes:
        yield Finding("seed api", ok=False, detail=detail, remedy=remedy)
    if not holes:
        by_browser = "" if old_shop.price_url else "; checkouts by a browser are refused (no PRICE_URL)"
        yield Finding("seed api", ok=True, detail=f"on{by_browser}")


def _holes(old_shop: OldShop) -> Iterator[tuple[str, str]]:
    if old_shop.unverified_prices and not old_shop.price_url:
        detail = "SEED_API_UNVERIFIED_PRICES=on is a hole: whoever pays names the price"
        yield detail, "set PRICE_URL to where the shop tells its prices, and turn it off"
    if not (old_shop.jwt_secret or old_shop.jwks_url):
        yield "no key to check tokens with: every route with a token answers 401", "set TULBUR_JWT_SECRET"
    if 0 < len(old_shop.jwt_secret) < SHORTEST_KEY:
        detail = f"TULBUR_JWT_SECRET is shorter than {SHORTEST_KEY} characters: it can be guessed from any token"
        yield detail, "give the shop and tulbur a longer random secret"
    if any(network.prefixlen == 0 for network in old_shop.networks):
        detail = "SEED_API_TRUSTED_NETWORKS holds every address: anybody may open checkouts for any user"
        yield detail, "name the gateway's own network"


async def _database(settings: Settings) -> tuple[list[Finding], Store | None]:
    """What is wrong with the database, and the store when nothing is; the caller stops it."""
    try:
        path = sqlite_path(settings.database_url)
        if path is None:
            return await _server(settings, open_store(settings))
    except SettingsError as wrong:
        return [_settings_finding("database", wrong.message)], None
    return await _file(path)


def _absent(path: Path) -> Finding | None:
    if path.is_dir() or not path.parent.is_dir():
        remedy = "make its directory, or correct DATABASE_URL"
        return Finding("database", ok=False, detail=f"{path} can be no file", remedy=remedy)
    if not path.exists():
        return Finding("database", ok=True, detail=f"{path} is not there yet; tulbur serve makes it")
    return None


async def _file(path: Path) -> tuple[list[Finding], Store | None]:
    """The same for a SQLite file, which a doctor must not make."""
    absent = _absent(path)
    if absent is not None:
        return [absent], None
    store = SqliteStore(path, busy_seconds=BUSY_SECONDS)
    try:
        return await _opened(path, store)
    except StoreUnavailable as silent:
        await store.stop()
        remedy = "see that nothing holds it, that it and its directory can be written, and that the disk has room"
        return [Finding("database", ok=False, detail=f"{path}: {silent.message}", remedy=remedy)], None
    except SettingsError as wrong:
        return [_settings_finding("schema", wrong.message)], None


async def _cache(settings: Settings) -> Finding:
    try:
        backend, kind = open_cache_backend(settings)
    except SettingsError as wrong:
        problem, _, remedy = wrong.message.partition(": ")
        return Finding("cache", ok=False, detail=problem, remedy=remedy or "correct REDIS_URL")
    if settings.redis_url is None:
        return Finding("cache", ok=True, detail=f"{kind}; one process only, or final states in each")
    called = getattr(backend, "told", kind)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await backend.start()
            await backend.ping()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises: it does not answer
        # The kind alone: what a driver says may hold what it was given.
        remedy = "start it, or correct REDIS_URL; until then every session is read from the database"
        return Finding("cache", ok=False, detail=f"{called} does not answer ({type(error).__name__})", remedy=remedy)
    finally:
        with contextlib.suppress(Exception):
            await backend.stop()
    return Finding("cache", ok=True, detail=f"{called} answers")


async def _server(settings: Settings, store: Store) -> tuple[list[Finding], Store | None]:
    """The same for a database that others run."""
    from tulbur.stores.choosing import migrations  # noqa: PLC0415 - slow to import

    try:
        await store.start()
        await store.lease("doctor", "doctor", 1)
        found = await asyncio.to_thread(migrations(settings.database_url).status, settings.database_url)
    except StoreUnavailable as silent:
        await store.stop()
        return [Finding("database", ok=False, detail=silent.message, remedy="start it, or correct DATABASE_URL")], None
    except SettingsError as wrong:
        await store.stop()
        return [_settings_finding("database", wrong.message)], None
    answers = Finding("database", ok=True, detail="can be read and written")
    return [answers, _schema(found.current, found.pending)], store


def _schema(current: str | None, pending: Sequence[str]) -> Finding:
    waiting = ", ".join(pending)
    remedy = "run: tulbur migrate" if waiting else ""
    return Finding("schema", ok=not waiting, detail=f"at {current}, pending: {waiting or 'none'}", remedy=remedy)


async def _opened(path: Path, store: SqliteStore) -> tuple[list[Finding], Store | None]:
    from tulbur.stores.migrate import has_tables, status  # noqa: PLC0415 - Alembic is slow to import

    answers = Finding("database", ok=True, detail=f"{path} can be read and written")
    if not has_tables(path):
        detail = "no tables yet; tulbur serve makes them"
        return [replace(answers, detail=str(path)), Finding("schema", ok=True, detail=detail)], None
    await store.start()
    await store.lease("doctor", "doctor", 1)
    found = status(path)
    return [answers, _schema(found.current, found.pending)], store


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


async def _login(required: Required, store: TokenStore) -> Finding:
    tokens = _Watched(store)
    try:
        qpay = QPay(
            required.qpay_base_url,
            required.qpay_username,
            required.qpay_password,
            required.qpay_invoice_code,
            store=tokens,
            clock=now,
        )
    except SettingsError as wrong:
        return Finding("qpay login", ok=False, detail=wrong.message, remedy="correct these settings")
    try:
        await qpay.start()
        await qpay.login()
    except ProviderRefused as refused:
        remedy = "correct QPAY_USERNAME and QPAY_PASSWORD; credentials differ between sandbox and production"
        return Finding("qpay login", ok=False, detail=refused.message, remedy=remedy)
    except ProviderError as silent:
        return Finding("qpay login", ok=False, detail=silent.message, remedy="check QPAY_BASE_URL and the network")
    finally:
        await qpay.stop()
    # Another login would end the token that the running service uses.
    untried = "" if tokens.logged_in else "; a token of an earlier login still lives, the password was not tried"
    return Finding("qpay login", ok=True, detail=f"{required.qpay_username} at {required.qpay_base_url}{untried}")


async def _public_url(required: Required) -> Finding:
    host = urlsplit(required.public_url).hostname or ""
    local_qpay = (urlsplit(required.qpay_base_url).hostname or "") in _LOCAL
    if host in _LOCAL and not local_qpay:
        remedy = "set PUBLIC_URL to an address that QPay can reach over the internet"
        return Finding("public url", ok=False, detail=f"{required.public_url} is this machine only", remedy=remedy)
    if not required.public_url.startswith("https://") and not local_qpay:
        remedy = "put a TLS certificate in front and use https://"
        return Finding("public url", ok=False, detail=f"{required.public_url} is not https", remedy=remedy)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{required.public_url}/healthz", allow_redirects=False) as answer,
        ):
            if answer.status == 200:
                return Finding("public url", ok=True, detail=f"{required.public_url} answers")
            detail = f"{required.public_url}/healthz answers {answer.status}"
    except (aiohttp.ClientError, TimeoutError) as error:
        detail = f"{required.public_url} does not answer ({type(error).__name__})"
    remedy = "start tulbur serve behind it, and let it through from outside"
    return Finding("public url", ok=False, detail=detail, remedy=remedy)


async def _clock(required: Required) -> Finding:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.head(required.qpay_base_url, allow_redirects=False) as answer,
        ):
            theirs = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (aiohttp.ClientError, TimeoutError) as error:
        detail = f"{required.qpay_base_url} does not answer ({type(error).__name__}), so its time is not known"
        return Finding("clock", ok=False, detail=detail, remedy="check QPAY_BASE_URL and the network")
    except (KeyError, ValueError):
        return Finding("clock", ok=True, detail="QPay tells no time to compare with")
    apart = time.time() - theirs
    if abs(apart) > CLOCK_SECONDS:
        remedy = "synchronise this machine's clock (chrony, systemd-timesyncd)"
        return Finding("clock", ok=False, detail=f"{apart:+.0f} s from QPay's", remedy=remedy)
    return Finding("clock", ok=True, detail=f"within {CLOCK_SECONDS} s of QPay's")
