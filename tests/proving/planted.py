"""Parts of tulbur with one defect each, which only a process that dies, or an answer that is lost, brings to light."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from proving.crash.shared import Edge
from proving.crash.shop import Parts
from tulbur.core import steps
from tulbur.core.session import Reason, Session
from tulbur.errors import CommitUnknown
from tulbur.payments import Payments
from tulbur.ports import CommitResult, Committed, NumberedEvent, Spooled, SweepRun
from tulbur.worker import Replayer


class Around:
    """A store that is the one within but for what a subclass does otherwise."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class SuccessBeforeTheCommit(Payments):
    _later: asyncio.Task[str] | None = None

    async def callback(self, session_id: str, payment_id: str) -> str:
        self._later = asyncio.create_task(super().callback(session_id, payment_id))
        return "waiting"

    async def stop(self) -> None:
        if self._later is not None:
            await self._later
        await super().stop()


class HintNotKept(Payments):
    async def _keep_hint(self, session_id: str, payment_id: str) -> tuple[Session, bool] | None:
        before = await self.desk.stored(session_id)
        after = steps.asked(before, Reason.CALLBACK, self.desk.clock(), new_hint=True)
        await self.desk.commit(before, after)
        return after.committed(), True


class OrdersInASecondCommit(Around):
    async def commit(self, before: Session, after: Session) -> CommitResult:
        if before.orders or not after.orders:
            return await self._store.commit(before, after)  # type: ignore[no-any-return]
        orders = [event for event in after.news if event.type == "order.created"]
        rest = tuple(event for event in after.news if event not in orders)
        paid = replace(after, orders=(), news=rest, event_count=after.event_count - len(orders))
        if await self._store.commit(before, paid) is not Committed.WON:
            return Committed.LOST
        told = replace(paid.committed(), orders=after.orders, news=tuple(orders), event_count=after.event_count)
        await self._store.commit(paid.committed(), told)
        return Committed.WON


class EventsTickedOffBeforeDelivery(Around):
    async def claim_events(self, owner: str, limit: int, lease_seconds: float) -> Sequence[NumberedEvent]:
        claimed: Sequence[NumberedEvent] = await self._store.claim_events(owner, limit, lease_seconds)
        await self._store.events_done(owner, [one.event.id for one in claimed])
        return claimed


class AddedAgainUnderAnotherName(Around):
    async def add(self, session: Session) -> None:
        try:
            await self._store.add(session)
        except CommitUnknown:
            news = tuple(replace(event, id=f"{event.id[:-1]}x") for event in session.news)
            attempts = tuple(replace(one, sender_invoice_no=f"{one.sender_invoice_no}x") for one in session.attempts)
            other = f"{session.id[:-1]}x"
            await self._store.add(replace(session, id=other, idempotency_key=None, news=news, attempts=attempts))


class SweptBeforeItIsDone(Around):
    async def sweep_put(self, run: SweepRun) -> None:
        await self._store.sweep_put(replace(run, complete=True))


class SpoolFileGoesFirst(Replayer):
    async def _replay(self, one: Spooled) -> bool:
        await self._spool.done(one.name)
        return await super()._replay(one)


PLANTED: dict[str, tuple[str, Parts, str, str]] = {
    "SUCCESS before the commit": (
        "callback",
        Parts(payments=SuccessBeforeTheCommit),
        Edge.LINE,
        "SUCCESS is a promise",
    ),
    "a hint that is not kept": (
        "callback before the money shows",
        Parts(payments=HintNotKept),
        Edge.END,
        "SUCCESS is a promise",
    ),
    "PAID and its orders in two commits": (
        "callback",
        Parts(store=OrdersInASecondCommit),
        Edge.AFTER_STATEMENT,
        "PAID and its orders are one",
    ),
    "events ticked off before they are delivered": (
        "outbox",
        Parts(store=EventsTickedOffBeforeDelivery),
        Edge.AFTER_STATEMENT,
        "delivered at least once",
    ),
    "an unknown outcome done again under another id": (
        "open",
        Parts(store=AddedAgainUnderAnotherName),
        Edge.LOST_CALL,
        "one session for one key",
    ),
    "a sweep that is on record before it saw anything": (
        "sweep",
        Parts(store=SweptBeforeItIsDone),
        Edge.BEFORE_REQUEST,
        "the sweep never comes to its end",
    ),
    "a spool file that goes before its callback is stored": (
        "spool replay",
        Parts(replayer=SpoolFileGoesFirst),
        Edge.BEFORE_STATEMENT,
        "what the spool held",
    ),
}
"""Each with the handler it is in, the broken part, what strikes at it, and the law that is broken then."""
