"""The move, row by row: import what is there, read it again, take over what nobody changed in between.

Rows are read in batches and handled by id, so that a run that was broken off is simply run again: what is stored
already is unchanged. The source is only read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tulbur.core.custody import Custody
from tulbur.core.moving import OldSession
from tulbur.core.session import SECOND, Micros
from tulbur.errors import Invalid
from tulbur.importer.keys import Key, RedisKeys
from tulbur.importer.loose import with_loose_orders
from tulbur.importer.report import Report
from tulbur.importer.rows import OrderRows, Row, id_of, old_session, order_ids, plain, redis_session
from tulbur.importer.sources import Source
from tulbur.payments.desk import Desk
from tulbur.payments.moving import Import, TakeOver, import_session, old_sessions, take_over, take_over_gone

AT_ONCE: Final = 8
"""Sessions stored at a time."""

LOOKS_PER_SECOND: Final = 5
"""How fast the looks of sessions taken over come due: QPay is asked about the past slowly."""

_AMISS: Final = frozenset(
    {Import.CHANGED_AFTER, Import.NOT_OLD, Import.INVOICE_TAKEN, TakeOver.CHANGED, TakeOver.MISSING}
)
_UNREADABLE: Final = "cannot be read"
_NO_SESSION: Final = "a processed invoice without a session"
_IN_DATABASE: Final = "a Redis key of a session that is in the database, too"
_NOT_THEIRS: Final = "a Redis key that holds no session of the old shop's"


@dataclass
class Move:
    """One run over the old shop's data; `progress` hears how many rows are behind it."""

    desk: Desk
    source: Source
    keys: RedisKeys | None = None
    cache_seconds: int = 600
    progress: Callable[[int], None] = lambda _rows: None
    _looks: int = field(default=0, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    async def follow(self, *, dry_run: bool) -> Report:
        """Import everything, or tell what would be."""
        report = Report("import")

        async def one(old: OldSession) -> Import:
            outcome = await import_session(self.desk, old, dry_run=dry_run)
            claim = outcome.session.claim if outcome.session else None
            if claim and claim.review and outcome.session and outcome.session.custody is Custody.FOLLOWED:
                report.amiss(old.id, "a person has to look at it first", claim.review)
            return outcome.done

        async for batch in self._read(report):
            await self._each(report, batch, one)
        await self._orphans(report)
        return report

    async def take_over(self) -> Report:
        """Read everything again; what still says what was imported is ours from now on."""
        report = Report("take over")

        async def one(old: OldSession) -> TakeOver:
            return await take_over(self.desk, old, look_at=self._next_look(), cache_seconds=self.cache_seconds)

        async for batch in self._read(report):
            await self._each(report, batch, one)
        await self._rest(report)
        return report

    def _next_look(self) -> Micros:
        self._looks += 1
        return self.desk.clock() + self._looks * SECOND // LOOKS_PER_SECOND

    async def _each(
        self, report: Report, batch: Sequence[OldSession], one: Callable[[OldSession], Awaitable[str]]
    ) -> None:
        at_once = asyncio.Semaphore(AT_ONCE)

        async def handle(old: OldSession) -> None:
            async with at_once:
                done = await one(old)
            report.row_done(old.status.value, str(done), old.amount, old.currency)
            if done in _AMISS:
                self._told.add(old.id)
                report.amiss(old.id, str(done))

        # All of them end before the first failure is told: nothing goes on behind a run that is over.
        for failure in await asyncio.gather(*(handle(old) for old in batch), return_exceptions=True):
            if failure is not None:
                raise failure
        self.progress(report.read)

    # --- reading

    async def _read(self, report: Report) -> AsyncIterator[Sequence[OldSession]]:
        used: set[str] = set()
        async for rows in self.source.sessions():
            yield await with_loose_orders(self.source, report, await self._parsed(report, rows), used)
        if self.keys is not None:
            async for keys in self.keys.batches():
                yield await with_loose_orders(self.source, report, await self._keyed(report, keys), used)

    async def _parsed(self, report: Report, rows: Sequence[Row]) -> Sequence[OldSession]:
        processed = await self._processed(_texts(rows, "invoiceId"), _texts(rows, "sessionId"))
        orders = await self._orders(processed)
        read = []
        for row in rows:
            mine = [p for p in processed if _belongs(p, row)]
            try:
                old = old_session(row, mine, orders)
            except Invalid as wrong:
                self._unreadable(report, id_of(row), wrong)
                continue
            report.row_read(old.amount, old.currency)
            read.append(old)
        return read

    async def _keyed(self, report: Report, keys: Sequence[Key]) -> Sequence[OldSession]:
        """The sessions that are in Redis alone."""
        ids = [key.session_id for key in keys]
        stored = {plain(row.get("sessionId")) for row in await self.source.known_sessions([], ids)}
        processed = await self._processed([], ids)
        orders = await self._orders(processed)
        read = []
        for key in {key.session_id: key for key in keys}.values():
            if key.session_id in stored or key.value is None or not key.is_theirs:
                report.row_read()
                report.row_skipped(_IN_DATABASE if key.session_id in stored else _NOT_THEIRS)
                continue
            mine = [p for p in processed if plain(p.get("sessionId")) == key.session_id]
            now = self.desk.clock()
            try:
                old = redis_session(
                    key.session_id, key.value, now=now, ttl_seconds=key.ttl_seconds, processed=mine, orders=orders
                )
            except Invalid as wrong:
                self._unreadable(report, key.session_id, wrong)
                continue
            report.row_read(old.amount, old.currency)
            read.append(old)
        return read

    def _unreadable(self, report: Report, id_: str, wrong: Invalid) -> None:
        report.row_read()
        report.row_skipped(f"{_UNREADABLE}: {wrong.message}")
        report.amiss(id_, _UNREADABLE, wrong.message)

    async def _processed(self, invoice_ids: Sequence[str], session_ids: Sequence[str]) -> Sequence[Row]:
        return await self.source.processed_for(invoice_ids, session_ids) if invoice_ids or session_ids else []

    async def _orders(self, processed: Sequence[Row]) -> OrderRows:
        named = order_ids(processed)
        rows = await self.source.orders(named) if named else {}
        return OrderRows(rows or {}, readable=rows is not None)

    async def _orphans(self, report: Report) -> None:
        """Processed invoices whose session is gone: there is no cart to take in, so they are only told."""
        async for rows in self.source.processed():
            invoice_ids, session_ids = _texts(rows, "invoiceId"), _texts(rows, "sessionId")
            sessions = await self.source.known_sessions(invoice_ids, session_ids)
            for row in rows:
                if not any(_belongs(row, session) for session in sessions):
                    report.row_read()
                    report.row_skipped(_NO_SESSION)

    # --- what is left

    async def _rest(self, report: Report) -> None:
        """Sessions that no source names any more, and the ones a person has to decide."""
        async for session in old_sessions(self.desk):
            if session.custody is not Custody.FOLLOWED or session.claim is None:
                continue
            if await take_over_gone(self.desk, session, look_at=self._next_look(), cache_seconds=self.cache_seconds):
                report.row_read(session.amount, session.currency)
                report.row_done(session.claim.status, "ended in Redis, taken over", session.amount, session.currency)
            elif session.id not in self._told:
                report.amiss(session.id, "still followed", session.claim.review or "changed or gone in the source")


def _texts(rows: Sequence[Row], name: str) -> list[str]:
    found = (plain(row.get(name)) for row in rows)
    return list(dict.fromkeys(text for text in found if isinstance(text, str) and text))


def _belongs(processed: Row, session: Row) -> bool:
    """By the session it names, else by its invoice."""
    named = plain(processed.get("sessionId"))
    if named:
        return bool(named == plain(session.get("sessionId")))
    invoice = plain(processed.get("invoiceId"))
    return bool(invoice) and bool(invoice == plain(session.get("invoiceId")))
