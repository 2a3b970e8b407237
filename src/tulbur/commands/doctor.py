"""Looks at everything a deployment stands on and says, one line each: ok, or the problem and what to do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from tulbur.errors import ProviderError, ProviderRefused, SettingsError, StoreUnavailable, TulburError
from tulbur.settings import OldShop, Required, Settings
from tulbur.wiring import Tulbur, open_store

TIMEOUT_SECONDS: Final = 5
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
    """Every check in turn; the ones that need a missing setting are left out."""
    required = None
    try:
        required = settings.required()
    except SettingsError as missing:
        for line in missing.message.splitlines():
            problem, _, remedy = line.partition(": ")
            yield Finding("settings", ok=False, detail=problem, remedy=remedy)
    else:
        yield _secrets(required)
    yield _api_keys(settings)
    for finding in _old_shop(settings):
        yield finding
    async for finding in _database(settings):
        yield finding
    yield Finding("cache", ok=True, detail="in-process; one process only, or final states in each")
    if required is None:
        return
    yield await _login(settings)
    yield await _public_url(required)
    yield await _clock(required)


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


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    from tulbur.stores.migrate import status  # noqa: PLC0415 - Alembic is slow to import

    try:
        store = open_store(settings)
        await store.start()
    except StoreUnavailable as silent:
        yield Finding("database", ok=False, detail=silent.message, remedy="start it, or correct DATABASE_URL")
        return
    except SettingsError as wrong:
        yield Finding("database", ok=False, detail=wrong.message, remedy="correct DATABASE_URL, or run: tulbur migrate")
        return
    try:
        await store.ping()
        yield Finding("database", ok=True, detail="answers")
        found = status(settings.database_url)
        pending = ", ".join(found.pending)
        remedy = "run: tulbur migrate" if pending else ""
        yield Finding(
            "schema", ok=not pending, detail=f"at {found.current}, pending: {pending or 'none'}", remedy=remedy
        )
    finally:
        await store.stop()


async def _login(settings: Settings) -> Finding:
    try:
        tulbur = Tulbur(settings, worker=False)
    except SettingsError as wrong:
        return Finding(
            "qpay login", ok=False, detail=f"not tried: {wrong.message}", remedy="correct the settings first"
        )
    try:
        await tulbur.store.start()
        await tulbur.provider.start()
        await tulbur.provider.login()
    except ProviderRefused as refused:
        remedy = "correct QPAY_USERNAME and QPAY_PASSWORD; credentials differ between sandbox and production"
        return Finding("qpay login", ok=False, detail=refused.message, remedy=remedy)
    except ProviderError as silent:
        return Finding("qpay login", ok=False, detail=silent.message, remedy="check QPAY_BASE_URL and the network")
    except TulburError as broken:
        return Finding("qpay login", ok=False, detail=broken.message, remedy="repair the database first")
    finally:
        await tulbur.provider.stop()
        await tulbur.store.stop()
    return Finding("qpay login", ok=True, detail=f"{settings.qpay_username} at {settings.qpay_base_url}")


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
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
        return Finding("clock", ok=True, detail="QPay tells no time to compare with")
    apart = time.time() - theirs
    if abs(apart) > CLOCK_SECONDS:
        remedy = "synchronise this machine's clock (chrony, systemd-timesyncd)"
        return Finding("clock", ok=False, detail=f"{apart:+.0f} s from QPay's", remedy=remedy)
    return Finding("clock", ok=True, detail=f"within {CLOCK_SECONDS} s of QPay's")
