"""The move, row by row: import what is there, read it again, take over what nobody changed in between.

Rows are read in batches and handled by id, so that a run that was broken off is simply run again: what is stored
already is unchanged. The source is only read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tulbur.core.custody import Custody
from tulbur.core.moving import OldSession
from tulbur.core.session import SECOND, Micros
from tulbur.errors import Invalid
from tulbur.importer.leaving import take_over_the_rest
from tulbur.importer.loose import Loose
from tulbur.importer.processed import belonging, belongs, order_rows, processed_of
from tulbur.importer.report import Report
from tulbur.importer.rows import Row, id_of, old_session, plain, redis_payload, redis_session
from tulbur.importer.sources import Source
from tulbur.payments.desk import Desk
from tulbur.payments.moving import Import, TakeOver, import_session, take_over

if TYPE_CHECKING:  # of an extra, and needed where there are keys alone
    from tulbur.importer.keys import Key, RedisKeys

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
    loose: Loose = field(init=False)
    _looks: int = field(default=0, init=False)
    _told: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.loose = Loose(self.desk, self.source)

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
            return await take_over(self.desk, old, look_at=self.next_look(), cache_seconds=self.cache_seconds)

        async for batch in self._read(report):
            await self._each(report, batch, one)
        await take_over_the_rest(self, report, self._told)
        return report

    def next_look(self) -> Micros:
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
        self._told.clear()
        self.loose = Loose(self.desk, self.source)
        async for rows in self.source.sessions():
            yield await self.loose.attached(report, await self._parsed(report, rows))
        if self.keys is not None:
            async for keys in self.keys.batches():
                yield await self.loose.attached(report, await self._keyed(report, keys))

    async def _parsed(self, report: Report, rows: Sequence[Row]) -> Sequence[OldSession]:
        processed = await processed_of(self.source, _texts(rows, "invoiceId"), _texts(rows, "sessionId"))
        orders = await order_rows(self.source, processed)
        read = []
        for row in rows:
            mine, doubt = belonging(processed, *_names(row))
            try:
                old = old_session(row, mine, orders, doubt)
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
        payloads = {key.session_id: redis_payload(key.value or b"") for key in keys}
        processed = await processed_of(self.source, _texts(payloads.values(), "invoiceId"), ids)
        orders = await order_rows(self.source, processed)
        read = []
        for key in {key.session_id: key for key in keys}.values():
            if key.session_id in stored or key.value is None or not key.is_theirs:
                report.row_read()
                report.row_skipped(_IN_DATABASE if key.session_id in stored else _NOT_THEIRS)
                continue
            mine, doubt = belonging(processed, key.session_id, {plain(payloads[key.session_id].get("invoiceId"))})
            try:
                old = redis_session(
                    key.session_id,
                    key.value,
                    now=self.desk.clock(),
                    ttl_seconds=key.ttl_seconds,
                    processed=mine,
                    orders=orders,
                    doubt=doubt,
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

    async def _orphans(self, report: Report) -> None:
        """Processed invoices whose session is gone: there is no cart to take in, so they are only told."""
        async for rows in self.source.processed():
            invoice_ids, session_ids = _texts(rows, "invoiceId"), _texts(rows, "sessionId")
            sessions = await self.source.known_sessions(invoice_ids, session_ids)
            for row in rows:
                if not any(belongs(row, *_names(session)) for session in sessions):
                    report.row_read()
                    report.row_skipped(_NO_SESSION)


def _names(row: Row) -> tuple[Any, set[Any]]:
    """A session's id, and its invoice."""
    return plain(row.get("sessionId")), {plain(row.get("invoiceId"))}


def _texts(rows: Iterable[Row], name: str) -> list[str]:
    found = (plain(row.get(name)) for row in rows)
    return list(dict.fromkeys(text for text in found if isinstance(text, str) and text))
