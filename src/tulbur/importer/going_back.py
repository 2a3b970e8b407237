"""The way back to the old shop: hand over what is pending, and take back what it did not make orders of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tulbur.core.custody import Custody
from tulbur.core.handing_over import Stays
from tulbur.core.session import SECOND, Micros, Session
from tulbur.importer.leaving import left_behind
from tulbur.importer.loose import Loose
from tulbur.importer.moving import AT_ONCE, LOOKS_PER_SECOND
from tulbur.importer.report import Report
from tulbur.importer.rows import plain
from tulbur.importer.sources import Source
from tulbur.payments.desk import Desk
from tulbur.payments.handing_over import HandOver, TakeBack, hand_over, pending, take_back, withdraw
from tulbur.payments.moving import Left
from tulbur.ports import OldKeys

GRACE_SECONDS: Final = 10.0
"""How long the old shop may still work on a session whose key it read just before it was removed."""

_AMISS: Final = frozenset(
    {
        *(Stays.MONEY, Stays.NAMED, Stays.HALF, Stays.CREATING, Stays.ANNOUNCED, Stays.ASKED),
        *(HandOver.PAID_MEANWHILE, HandOver.SILENT, HandOver.UNSAYABLE, HandOver.FOREIGN),
        *(TakeBack.CHANGED, TakeBack.DOUBT),
    }
)


@dataclass
class GoBack:
    """One run; `pause` waits so many seconds, `progress` hears how many sessions are behind it."""

    desk: Desk
    keys: OldKeys
    pause: Callable[[float], Awaitable[None]]
    progress: Callable[[int], None] = lambda _sessions: None
    _looks: int = field(default=0, init=False)

    async def hand_over(self, ids: Sequence[str] = (), *, dry_run: bool) -> Report:
        """Hand over these sessions, or all that are pending; or tell what would be done."""
        report = Report("export")

        async def one(session: Session) -> None:
            report.row_read(session.amount, session.currency)
            handed = await hand_over(self.desk, self.keys, session.id, dry_run=dry_run)
            _done(report, session, handed.done, handed.why)

        async for batch in self._batches(ids):
            await self._each(batch, one)
            self.progress(report.read)
        return report

    async def take_back(
        self, source: Source | None, ids: Sequence[str] = (), *, cache_seconds: int, dry_run: bool = False
    ) -> Report:
        """Take these sessions back, or all that were handed over.

        `source` None: somebody knows that the old shop is stopped, and made no orders of them.
        """
        report = Report("take back")
        async for batch in self._batches(ids):
            handed = [session for session in batch if ids or session.custody is Custody.HANDED_OVER]
            theirs = await self._withdrawn(report, handed, dry_run=dry_run)
            found: Mapping[str, Left] = {}
            if source is not None and theirs:
                await self.pause(0 if dry_run else GRACE_SECONDS)
                theirs = await self._unchanged(source, report, theirs)
                found = await left_behind(source, Loose(self.desk, source), report, theirs)

            async def one(session: Session, found: Mapping[str, Left] = found) -> None:
                left = found.get(session.id, Left(orders={}, processed_at=None))
                if left.doubt:
                    _done(report, session, TakeBack.DOUBT, left.doubt)
                    return
                done = await take_back(
                    self.desk,
                    self.keys,
                    session.id,
                    orders=left.orders,
                    made_at=left.processed_at,
                    look_at=self._next_look(),
                    cache_seconds=cache_seconds,
                    dry_run=dry_run,
                )
                _done(report, session, done)

            await self._each(theirs, one)
            self.progress(report.read)
        return report

    async def _withdrawn(self, report: Report, batch: Sequence[Session], *, dry_run: bool) -> list[Session]:
        """The sessions of a batch whose keys are gone, so that the old shop begins with none of them any more."""
        theirs: list[Session] = []

        async def one(session: Session) -> None:
            report.row_read(session.amount, session.currency)
            if session.custody is not Custody.HANDED_OVER:
                _done(report, session, TakeBack.NOT_THERE)
            elif await withdraw(self.keys, session, dry_run=dry_run):
                theirs.append(session)
            else:
                _done(report, session, TakeBack.CHANGED)

        await self._each(batch, one)
        return theirs

    async def _unchanged(self, source: Source, report: Report, batch: Sequence[Session]) -> list[Session]:
        """The ones of which the old shop's database does not name another invoice: that is a checkout of its own."""
        rows = await source.known_sessions([], [session.id for session in batch])
        named = {plain(row.get("sessionId")): plain(row.get("invoiceId")) for row in rows}
        kept = []
        for session in batch:
            if named.get(session.id) in {None, "", *(attempt.id for attempt in session.asked_about)}:
                kept.append(session)
            else:
                _done(report, session, TakeBack.CHANGED)
        return kept

    def _next_look(self) -> Micros:
        self._looks += 1
        return self.desk.clock() + self._looks * SECOND // LOOKS_PER_SECOND

    async def _batches(self, ids: Sequence[str]) -> AsyncIterator[Sequence[Session]]:
        if ids:
            yield [await self.desk.stored(id_) for id_ in dict.fromkeys(ids)]
            return
        async for batch in pending(self.desk):
            yield batch

    async def _each(self, batch: Sequence[Session], one: Callable[[Session], Awaitable[None]]) -> None:
        at_once = asyncio.Semaphore(AT_ONCE)

        async def handle(session: Session) -> None:
            async with at_once:
                await one(session)

        # All of them end before the first failure is told: nothing goes on behind a run that is over.
        for failure in await asyncio.gather(*(handle(session) for session in batch), return_exceptions=True):
            if failure is not None:
                raise failure


def _done(report: Report, session: Session, done: HandOver | Stays | TakeBack, why: str = "") -> None:
    report.row_done(session.status.value, done.value, session.amount, session.currency)
    if done in _AMISS:
        report.amiss(session.id, done.value, why)
