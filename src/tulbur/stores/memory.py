"""A store in this process's memory, for tests and trials; it forgets everything when the process ends.

It awaits at every call before it touches anything, so that a caller's races show, and it keeps bytes, never objects a
caller could still hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from tulbur.core.orders import Order
from tulbur.core.retention import blanked
from tulbur.core.session import Micros, Session, Status
from tulbur.errors import Conflict, SessionExists, StoreUnavailable
from tulbur.ports import (
    UNTOLD,
    CommitResult,
    Committed,
    Leave,
    PaymentTaken,
    SessionQuery,
    StoredToken,
    StoreStats,
    SweepRun,
)
from tulbur.stores import rows
from tulbur.stores.memory_data import MemoryData, Row, counted, leased
from tulbur.stores.memory_money import MemoryMoney
from tulbur.stores.memory_outbox import MemoryOutbox
from tulbur.stores.rows import Change, EventState, page

__all__ = ["MemoryData", "MemoryStore"]


class MemoryStore(MemoryMoney, MemoryOutbox):
    """Implements `ports.Store`; `clock` stands for the database's own, by which leases end."""

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        await asyncio.sleep(0)

    async def ping(self) -> None:
        await asyncio.sleep(0)

    # --- sessions

    async def add(self, session: Session) -> None:
        change = Change(None, session, self._new_id())
        await self._sent(lambda: self._add(change))

    async def get(self, session_id: str) -> Session | None:
        await asyncio.sleep(0)
        return self._session(session_id)

    async def by_invoice(self, invoice_id: str) -> Session | None:
        await asyncio.sleep(0)
        return self._session(self.data.invoices.get(invoice_id))

    async def by_sender(self, sender_invoice_no: str) -> Session | None:
        await asyncio.sleep(0)
        holder = self.data.senders.get(sender_invoice_no)
        return self._session(holder[0]) if holder else None

    async def by_payment(self, payment_id: str) -> Session | None:
        await asyncio.sleep(0)
        row = self.data.payments.get(payment_id)
        return self._session(row["session_id"]) if row else None

    async def owner_of(self, id_: str) -> str | None:
        await asyncio.sleep(0)
        if id_ in self.data.senders:
            return self.data.senders[id_][0]
        event = self.data.events.get(id_)
        return event["session_id"] if event else None

    async def order(self, order_id: str) -> tuple[str, Order] | None:
        await asyncio.sleep(0)
        row = self.data.orders.get(order_id)
        return (row["session_id"], rows.read_order(row)) if row else None

    async def commit(self, before: Session, after: Session) -> CommitResult:
        change = Change(before, after, self._new_id())
        return await self._sent(lambda: self._commit(change))

    async def commit_many(self, pairs: Sequence[tuple[Session, Session]]) -> list[CommitResult | Conflict]:
        changes = rows.changes(pairs, self._new_id())
        done = await self._sent(lambda: [self._commit_alone(change) for change in changes])
        return rows.as_asked(pairs, changes, done)

    async def find(self, query: SessionQuery) -> list[Session]:
        await asyncio.sleep(0)
        matching = [row for row in self.data.sessions.values() if _matches(row, query)]
        matching.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
        return [self._read(row) for row in matching[: page(query.limit)]]

    # --- work that is due

    async def claim_due(self, now: Micros, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        await asyncio.sleep(0)
        clock = self._clock()
        due = [
            row
            for row in self.data.sessions.values()
            if row["next_check_at"] is not None and row["next_check_at"] <= now and row["lease_until"] <= clock
        ]
        due.sort(key=lambda row: (row["next_check_at"], row["id"]))
        return [self._read(leased(row, owner, clock, lease_seconds)) for row in due[: page(limit)]]

    async def blank(
        self, *, finished_before: Micros, late_before: Micros, now: Micros, limit: int, leave: Leave = UNTOLD
    ) -> int:
        await asyncio.sleep(0)
        over = self._finished(rows.cutoffs(finished_before, late_before), leave)[: page(limit)]
        return sum(self._blank(row, now, leave) for row in over if _is_readable(row))

    async def blankable(
        self, *, finished_before: Micros, late_before: Micros, limit: int, leave: Leave = UNTOLD
    ) -> int:
        await asyncio.sleep(0)
        return len(self._finished(rows.cutoffs(finished_before, late_before), leave)[: rows.counted(limit)])

    async def unreadable(
        self, *, finished_before: Micros, late_before: Micros, limit: int, leave: Leave = UNTOLD
    ) -> list[str]:
        await asyncio.sleep(0)
        cutoffs = rows.cutoffs(finished_before, late_before).items()
        next_ones = [row for each in cutoffs for row in self._finished(dict([each]), leave)[: page(limit)]]
        return [row["id"] for row in next_ones if not _is_readable(row)]

    async def late_invoices(self, *, late_before: Micros, limit: int, leave: Leave = UNTOLD) -> list[Session]:
        await asyncio.sleep(0)
        next_ones = [row for s in rows.LATE for row in self._finished({s: late_before}, leave)[: page(limit)]]
        readable = (self._read(row) for row in next_ones if _is_readable(row))
        return [session for session in readable if rows.has_open_invoice(session)]

    # --- sweeps

    async def sweep_put(self, run: SweepRun) -> None:
        await asyncio.sleep(0)
        self.data.sweeps[run.id] = rows.sweep_row(run)

    async def sweeps(self, limit: int, before: tuple[Micros, str] | None = None) -> list[SweepRun]:
        await asyncio.sleep(0)
        kept = sorted(self.data.sweeps.values(), key=lambda row: (row["started_at"], row["id"]), reverse=True)
        older = [row for row in kept if before is None or (row["started_at"], row["id"]) < before]
        return [rows.read_sweep(row) for row in older[: page(limit)]]

    async def swept_until(self) -> Micros | None:
        await asyncio.sleep(0)
        return max((row["window_end"] for row in self.data.sweeps.values() if row["complete"]), default=None)

    # --- counts, leases, tokens

    async def stats(self, now: Micros) -> StoreStats:
        await asyncio.sleep(0)
        sessions, payments = self.data.sessions.values(), self.data.payments.values()
        hour = now // rows.HOUR - rows.TALLY_HOURS
        return rows.stats(
            statuses=counted(row["status"] for row in sessions),
            exceptions=counted(row["exceptions"] for row in sessions),
            created_24h=sum(now - rows.DAY < row["created_at"] for row in sessions),
            orders=len(self.data.orders),
            refunds=[(row["currency"], 1, row["refund_due"]) for row in payments if row["refund_due"] > 0],
            held=[(row["currency"], 1, row["held"]) for row in payments if row["held"] > 0],
            unmatched=sum(row["session_id"] is None and row["closed_at"] is None for row in payments),
            checks_due=sum(row["next_check_at"] is not None and row["next_check_at"] <= now for row in sessions),
            events_undelivered=len(self.data.waiting),
            events_parked=sum(row["state"] == EventState.PARKED for row in self.data.events.values()),
            swept_until=await self.swept_until(),
            loads=[(name, n) for (at, name), n in self.data.tallies.items() if at > hour],
        )

    async def tally(self, now: Micros, loads: Mapping[str, int]) -> None:
        await asyncio.sleep(0)
        for name, count in loads.items():
            key = (now // rows.HOUR, name)
            self.data.tallies[key] = self.data.tallies.get(key, 0) + count

    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        await asyncio.sleep(0)
        holder, until = self.data.leases.get(name, (owner, 0))
        if holder != owner and until > self._clock():
            return False
        self.data.leases[name] = (owner, rows.lease_end(self._clock(), seconds))
        return True

    async def token_get(self, login: str) -> StoredToken | None:
        await asyncio.sleep(0)
        return self.data.tokens.get(login)

    async def token_put(self, login: str, token: StoredToken) -> None:
        await asyncio.sleep(0)
        self.data.tokens[login] = token

    # --- one commit, without an await in it

    def _add(self, change: Change) -> None:
        session, data = change.after, self.data
        if (change.commit_id, session.id) in data.commits:
            return
        holder = session.id if session.id in data.sessions else None
        if holder is None and session.idempotency_key is not None:
            holder = data.keys.get((session.scope, session.idempotency_key))
        if holder is not None:
            raise SessionExists(holder)
        if self._taken(change):
            raise Conflict("a payment of this session belongs to another one")
        self._check_keys(change)
        self._write(change)

    def _commit(self, change: Change) -> CommitResult:
        row = self.data.sessions.get(change.after.id)
        if row is None or row["version"] != change.version - 1:
            mine = (change.commit_id, change.after.id) in self.data.commits
            return Committed.WON if mine else Committed.LOST
        if taken := self._taken(change):
            return PaymentTaken(taken)
        self._check_keys(change)
        self._write(change)
        return Committed.WON

    def _commit_alone(self, change: Change) -> CommitResult | Conflict:
        try:
            return self._commit(change)
        except Conflict as refused:
            return refused

    def _taken(self, change: Change) -> frozenset[str]:
        known = {p.id: self.data.payments.get(p.id, {}) for p in change.payments}
        others = {id_ for id_, row in known.items() if row.get("session_id") not in (None, change.after.id)}
        return frozenset(others | {id_ for id_ in change.assigned if known[id_].get("closed_at") is not None})

    def _check_keys(self, change: Change) -> None:
        """Raise Conflict where a database's unique keys would refuse."""
        session_id, data = change.after.id, self.data
        for attempt in change.attempts:
            if attempt.id is not None and data.invoices.get(attempt.id, session_id) != session_id:
                raise Conflict(rows.INVOICE_TAKEN)
            mine = (session_id, attempt.number)
            if data.senders.get(attempt.sender_invoice_no, mine) != mine:
                raise Conflict(rows.INVOICE_TAKEN)
        if any(order.id in data.orders for order in change.orders):
            raise Conflict(rows.ORDERED_ALREADY)
        if any(event.id in data.events for event in change.after.news):
            raise Conflict(rows.TOLD_ALREADY)

    def _write(self, change: Change) -> None:
        session, data = change.after, self.data
        data.sessions[session.id] = rows.session_row(change)
        data.commits.add((change.commit_id, session.id))
        if session.idempotency_key is not None:
            data.keys[session.scope, session.idempotency_key] = session.id
        for attempt in change.attempts:
            data.senders[attempt.sender_invoice_no] = (session.id, attempt.number)
            if attempt.id is not None:
                data.invoices[attempt.id] = session.id
        for payment in change.payments:
            data.payments.setdefault(payment.id, {}).update(rows.payment_row(session.id, payment))
        for order in change.orders:
            data.orders[order.id] = rows.order_row(session.id, order)
        for row in rows.event_rows(change):
            data.events[row["id"]] = row
            data.histories.setdefault(session.id, []).append(row["id"])
            if row["state"] in rows.UNDELIVERED:
                data.waiting[row["id"]] = None

    def _blank(self, row: Row, now: Micros, leave: Leave) -> bool:
        before = self._read(row)
        after = blanked(before, now)
        if after is before:
            row["unsettled"] = rows.kept_back(before)
            return False
        if rows.is_left(before, leave):
            return False
        return self._commit(Change(before, after, self._new_id())) is Committed.WON

    def _session(self, session_id: str | None) -> Session | None:
        row = self.data.sessions.get(session_id) if session_id is not None else None
        return self._read(row) if row else None

    def _read(self, row: Mapping[str, Any]) -> Session:
        return rows.read_session(row["document"], row["version"])

    def _finished(self, cutoffs: Mapping[Status, Micros], leave: Leave = UNTOLD) -> list[Row]:
        over = [row for row in self.data.sessions.values() if self._blankable(row, cutoffs, leave)]
        return sorted(over, key=lambda row: (row["updated_at"], row["id"]))

    def _blankable(self, row: Row, cutoffs: Mapping[Status, Micros], leave: Leave) -> bool:
        cutoff = cutoffs.get(Status(row["status"]))
        if cutoff is None or row["updated_at"] >= cutoff or row["blanked_at"] is not None:
            return False
        if row["unsettled"] or row["next_check_at"] is not None or row["id"] in leave.ids:
            return False
        return not leave.untold or not any(
            self.data.events[id_]["state"] in rows.UNTOLD for id_ in self.data.histories[row["id"]]
        )


def _is_readable(row: Row) -> bool:
    try:
        rows.read_session(row["document"], row["version"])
    except StoreUnavailable:
        return False
    return True


def _matches(row: Mapping[str, Any], query: SessionQuery) -> bool:
    position = (row["created_at"], row["id"])
    return (
        (query.status is None or row["status"] == query.status)
        and (query.exception is None or f",{query.exception}," in row["exceptions"])
        and (query.user_id is None or row["user_id"] == query.user_id)
        and (query.created_after is None or row["created_at"] > query.created_after)
        and (query.created_before is None or row["created_at"] < query.created_before)
        and (query.cursor is None or position < query.cursor)
    )
