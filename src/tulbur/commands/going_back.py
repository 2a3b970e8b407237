"""`tulbur export-redis`: to the old shop and back, with progress for a person and the report for both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from tulbur.commands.moving import opened, print_report, progress
from tulbur.errors import SettingsError
from tulbur.importer.choosing import driver, open_source
from tulbur.importer.going_back import GoBack
from tulbur.importer.report import Report
from tulbur.ports import OldKeys
from tulbur.wiring import Tulbur

ONE_OF_TWO: Final = (
    "the old shop may have made orders meanwhile: give its database as --from, which is looked into, or say "
    "--no-orders-there when it is stopped and you know that it made none. One of the two, not both."
)


async def hand_over(tulbur: Tulbur, redis_url: str, ids: Sequence[str], *, dry_run: bool) -> Mapping[str, Any]:
    async with _old_keys(redis_url) as keys:
        going = GoBack(tulbur.payments.desk, keys, pause=asyncio.sleep)
        with progress("handing over", len(ids) or None) as going.progress:
            report = await going.hand_over(ids, dry_run=dry_run)
    return _told(report, dry_run=dry_run)


async def take_back(
    tulbur: Tulbur, redis_url: str, url: str | None, ids: Sequence[str], *, dry_run: bool
) -> Mapping[str, Any]:
    seconds = tulbur.payments.policy.session_ttl_seconds
    async with contextlib.AsyncExitStack() as open_:
        source = await open_.enter_async_context(opened(open_source(url))) if url else None
        keys = await open_.enter_async_context(_old_keys(redis_url))
        going = GoBack(tulbur.payments.desk, keys, pause=asyncio.sleep)
        with progress("taking back", len(ids) or None) as going.progress:
            report = await going.take_back(source, ids, cache_seconds=seconds, dry_run=dry_run)
    return _told(report, dry_run=dry_run)


def _told(report: Report, *, dry_run: bool) -> Mapping[str, Any]:
    return {"dry_run": dry_run, "ok": report.fine, "reports": [report.as_json()]}


def print_found(found: Mapping[str, Any]) -> None:
    for report in found["reports"]:
        print_report(report)


@contextlib.asynccontextmanager
async def _old_keys(url: str) -> AsyncIterator[OldKeys]:
    with driver("redis"):
        from tulbur.cache.old_keys import RedisOldKeys  # noqa: PLC0415 - of an extra
    try:
        keys = RedisOldKeys(url)
    except ValueError:
        raise SettingsError(
            "the old shop's Redis is not an address such as redis://:password@host:6379/0; rediss:// is TLS, and "
            "?cluster=1 means a cluster."
        ) from None
    try:
        await keys.start()
        yield keys
    finally:
        await keys.stop()
