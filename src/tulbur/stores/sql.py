"""`ports.Store` over SQLAlchemy Core: which statements make up each method, whatever runs them.

An adapter supplies `_write` and `_read`. The three databases share everything else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from tulbur.core.orders import Order
from tulbur.core.session import Event, Micros, Session
from tulbur.errors import Conflict
from tulbur.ports import (
    UNTOLD,
    Clock,
    CommitResult,
    EventDelivery,
    Leave,
    ListedPayment,
    NumberedEvent,
    PaymentQuery,
    Replayed,
    SessionQuery,
    StoredToken,
    StoreStats,
    SweepRun,
    Unmatched,
)
from tulbur.stores import outbox, reads, rows, sweeps, worklist, writes
from tulbur.stores.dialects import database_clock
from tulbur.stores.rows import Change
from tulbur.stores.sending import new_commit_id, sent

T = TypeVar("T")


class SqlStore(ABC):
    """Implements `ports.Store`; leases end by the database's clock unless `clock` is given."""

    def __init__(self, clock: Clock | None = None, *, commit_ids: Callable[[], str] = new_commit_id) -> None:
        self._clock = clock
        self._new_id = commit_ids

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None: ...

    @abstractmethod
    async def ping(self) -> None: ...

    @abstractmethod
    async def _write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, again as a whole while the database asks for that, at most so often.

        Raises:
            CommitUnknown: the answer to COMMIT was lost; the next call uses a new connection.
            StoreUnavailable: nothing was changed.
        """

    @abstractmethod
    async def _read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, on what is committed by now."""

    async def _write_surely(self, work: Callable[[Connection], T]) -> T:
        """The same for work that recognises what an earlier sending of its own has done."""
        return await sent(lambda: self._write(work))

    def _now(self, connection: Connection) -> Micros:
        return self._clock() if self._clock else database_clock(connection)

    # --- sessions

    async def add(self, session: Session) -> None:
        change = Change(None, session, self._new_id())
        await self._write_surely(lambda c: writes.add(c, change))

    async def get(self, session_id: str) -> Session | None:
        return await self._read(lambda c: reads.get(c, session_id))

    async def by_invoice(self, invoice_id: str) -> Session | None:
        return await self._read(lambda c: reads.by_invoice(c, invoice_id))

    async def by_sender(self, sender_invoice_no: str) -> Session | None:
        return await self._read(lambda c: reads.by_sender(c, sender_invoice_no))

    async def by_payment(self, payment_id: str) -> Session | None:
        return await self._read(lambda c: reads.by_payment(c, payment_id))

    async def owner_of(self, id_: str) -> str | None:
        return await self._read(lambda c: reads.owner_of(c, id_))

    async def order(self, order_id: str) -> tuple[str, Order] | None:
        return await self._read(lambda c: reads.order(c, order_id))

    async def find(self, query: SessionQuery) -> list[Session]:
        return await self._read(lambda c: reads.find(c, query))

    async def commit(self, before: Session, after: Session) -> CommitResult:
        change = Change(before, after, self._new_id())
        try:
            return await self._write_surely(lambda c: writes.commit(c, change))
        except writes.PaymentsTaken as taken:
            return taken.result

    async def commit_many(self, pairs: Sequence[tuple[Session, Session]]) -> list[CommitResult | Conflict]:
        changes = rows.changes(pairs, self._new_id())
        try:
            done = await self._write_surely(lambda c: writes.commit_all(c, changes))
        except (writes.PaymentsTaken, Conflict):
            done = await self._write_surely(lambda c: writes.commit_each(c, changes))
        return rows.as_asked(pairs, changes, done)

    # --- money without a session

    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        return await self._write_surely(lambda c: worklist.record_unmatched(c, unmatched))

    async def unmatched(self, limit: int) -> list[Unmatched]:
        return await self._read(lambda c: worklist.unmatched(c, limit))

    async def unmatched_payment(self, payment_id: str) -> Unmatched | None:
        return await self._read(lambda c: worklist.unmatched_payment(c, payment_id))

    async def unmatched_due(self, now: Micros, limit: int) -> list[Unmatched]:
        return await self._read(lambda c: worklist.unmatched_due(c, now, limit))

    async def unmatched_looked(self, unmatched: Unmatched, before_due_at: Micros | None) -> bool:
        return await self._write(lambda c: worklist.unmatched_looked(c, unmatched, before_due_at))

    async def close_unmatched(self, payment_id: str, *, now: Micros, note: Mapping[str, str]) -> bool:
        return await self._write_surely(lambda c: worklist.close_unmatched(c, payment_id, now=now, note=note))

    async def payments(self, query: PaymentQuery) -> list[ListedPayment]:
        return await self._read(lambda c: worklist.listed(c, query))

    # --- work that is due

    async def claim_due(self, now: Micros, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        return await self._write(
            lambda c: writes.claim_due(
                c, now=now, clock=self._now(c), owner=owner, limit=limit, lease_seconds=lease_seconds
            )
        )

    async def blank(
        self, *, finished_before: Micros, late_before: Micros, now: Micros, limit: int, leave: Leave = UNTOLD
    ) -> int:
        cutoffs, commit_id = rows.cutoffs(finished_before, late_before), self._new_id()
        return await self._write(
            lambda c: writes.blank(c, cutoffs, now=now, limit=limit, commit_id=commit_id, leave=leave)
        )

    async def blankable(
        self, *, finished_before: Micros, late_before: Micros, limit: int, leave: Leave = UNTOLD
    ) -> int:
        cutoffs = rows.cutoffs(finished_before, late_before)
        return await self._read(lambda c: writes.blankable(c, cutoffs, limit, leave))

    async def unreadable(
        self, *, finished_before: Micros, late_before: Micros, limit: int, leave: Leave = UNTOLD
    ) -> list[str]:
        cutoffs = rows.cutoffs(finished_before, late_before)
        return await self._read(lambda c: writes.unreadable(c, cutoffs, limit, leave))

    async def late_invoices(self, *, late_before: Micros, limit: int, leave: Leave = UNTOLD) -> list[Session]:
        return await self._read(lambda c: writes.late_invoices(c, late_before, limit, leave))

    async def closed_unmatched(self, closed_before: Micros, limit: int) -> list[str]:
        return await self._read(lambda c: worklist.closed(c, closed_before, limit))

    async def blank_unmatched(self, payment_ids: Sequence[str]) -> None:
        await self._write_surely(lambda c: worklist.blank(c, payment_ids))

    # --- sweeps

    async def sweep_put(self, run: SweepRun) -> None:
        await self._write_surely(lambda c: sweeps.put(c, run))

    async def sweeps(self, limit: int, before: tuple[Micros, str] | None = None) -> list[SweepRun]:
        return await self._read(lambda c: sweeps.listed(c, limit, before))

    async def swept_until(self) -> Micros | None:
        return await self._read(sweeps.until)

    # --- the outbox

    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        return await self._write(lambda c: outbox.publish(c, limit, deliver=deliver))

    async def claim_events(self, owner: str, limit: int, lease_seconds: float) -> list[NumberedEvent]:
        return await self._write(
            lambda c: outbox.claim_events(c, clock=self._now(c), owner=owner, limit=limit, lease_seconds=lease_seconds)
        )

    async def events_done(self, owner: str, event_ids: Sequence[str]) -> None:
        await self._write_surely(lambda c: outbox.events_done(c, self._now(c), owner, event_ids))

    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: Micros | None) -> None:
        await self._write_surely(lambda c: outbox.events_failed(c, owner, event_ids, retry_at=retry_at))

    async def parked(self, after_no: int, limit: int) -> list[NumberedEvent]:
        return await self._read(lambda c: outbox.parked(c, after_no, limit))

    async def replay_events(
        self, after_no: int, *, since: Micros, before: Micros, limit: int, parked_only: bool = False
    ) -> Replayed:
        return await self._write(
            lambda c: outbox.replay(c, after_no, since=since, before=before, limit=limit, parked_only=parked_only)
        )

    async def events(self, after: int, limit: int) -> list[NumberedEvent]:
        return await self._read(lambda c: reads.published(c, after, limit))

    async def history(self, session_id: str, limit: int) -> list[Event]:
        return await self._read(lambda c: reads.history(c, session_id, limit))

    async def deliveries(self, session_id: str, limit: int) -> list[EventDelivery]:
        return await self._read(lambda c: outbox.deliveries(c, session_id, limit))

    # --- counts, leases, tokens

    async def stats(self, now: Micros) -> StoreStats:
        return await self._read(lambda c: reads.stats(c, now))

    async def tally(self, now: Micros, loads: Mapping[str, int]) -> None:
        await self._write(lambda c: writes.tally(c, now, loads))

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        return await self._write_surely(
            lambda c: writes.lease(c, name=name, owner=owner, clock=self._now(c), seconds=seconds)
        )

    async def token_get(self, login: str) -> StoredToken | None:
        return await self._read(lambda c: reads.token_get(c, login))

    async def token_put(self, login: str, token: StoredToken) -> None:
        await self._write_surely(lambda c: writes.token_put(c, login, token))
