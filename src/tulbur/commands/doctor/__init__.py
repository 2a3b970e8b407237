"""Looks at everything a deployment stands on and says, one line each: ok, or the problem and what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tulbur.commands.doctor import address, cached, old_shop, own_settings, provider
from tulbur.commands.doctor.database import Database
from tulbur.commands.doctor.finding import Finding, problem
from tulbur.commands.doctor.spooled import examine_spool
from tulbur.commands.doctor.webhook import examine_webhook
from tulbur.errors import TulburError
from tulbur.settings import Required, Settings
from tulbur.stores.memory import MemoryStore
from tulbur.wiring import now

__all__ = ["Finding", "examine"]


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Every check in turn; the ones that need a missing setting are left out. Nothing is made that was not there."""
    findings, required = own_settings.settings_given(settings)
    for finding in findings:
        yield finding
    yield own_settings.api_keys(settings)
    for finding in (*own_settings.without_effect(settings), *old_shop.routes(settings)):
        yield finding
    earnest = required is not None and not address.is_local(required.qpay_base_url)
    database = Database(settings, earnest=earnest)
    try:
        async for finding in _whatever_happens("database", database.examine()):
            yield finding
        async for finding in _whatever_happens("old sessions", old_shop.sessions(settings, database.store, now())):
            yield finding
        async for finding in _whatever_happens("cache", _cache(settings)):
            yield finding
        yield examine_spool(settings, now())
        async for finding in _whatever_happens("webhook", examine_webhook(settings, database.store, now())):
            yield finding
        if required is not None:
            async for finding in _whatever_happens("qpay login", _login(settings, required, database)):
                yield finding
            async for finding in _whatever_happens("public url", _outside(required)):
                yield finding
    finally:
        await database.stop()


async def _cache(settings: Settings) -> AsyncIterator[Finding]:
    yield await cached.cache(settings)


async def _login(settings: Settings, required: Required, database: Database) -> AsyncIterator[Finding]:
    yield await provider.login(required, MemoryStore(now) if database.empty else database.store)
    for finding in provider.shared(settings, await cached.old_keys(settings)):
        yield finding


async def _outside(required: Required) -> AsyncIterator[Finding]:
    yield await address.public_url(required)
    yield await provider.clock(required)


async def _whatever_happens(check: str, findings: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """An error that nobody foresaw is one line more, and the other checks are made; its text may hold a secret."""
    try:
        async for finding in findings:
            yield finding
    except TulburError as error:
        yield problem(check, error.message, "run tulbur doctor again")
    except Exception as error:  # noqa: BLE001 - see above
        yield problem(
            check, f"could not be looked at ({type(error).__name__})", "tell tulbur's makers; go on with the others"
        )
