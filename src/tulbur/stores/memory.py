"""A store in this process's memory, for tests and trials; it forgets everything when the process ends.

It awaits at every call before it touches anything, so that a caller's races show, and it keeps bytes, never objects a
caller could still hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tulbur.core.orders import Order
from tulbur.core.retention import blanked
from tulbur.core.session import Event, Micros, Session, Status
from tulbur.errors import Conflict, SessionExists
from tulbur.ports import (
    Clock,
    CommitResult,
    Committed,
    NumberedEvent,
    PaymentTaken,
    SessionQuery,
    StoredToken,
    StoreStats,
    Unmatched,
)
from tulbur.stores import rows
from tulbur.stores.rows import Change, EventState, page
from tulbur.stores.sending import new_commit_id, sent

T = TypeVar("T")

_Row = dict[str, Any]


@dataclass
class MemoryData:
    """What a memory store keeps; several stores may share it, as processes share a database."""

    sessions: dict[str, _Row] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    invoices: dict[str, str] = field(default_factory=dict)
    senders: dict[str, tuple[str, int]] = field(default_factory=dict)
    payments: dict[str, _Row] = field(default_factory=dict)
    orders: dict[str, _Row] = field(default_factory=dict)
    events: dict[str, _Row] = field(default_factory=dict)
    histories: dict[str, list[str]] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    waiting: dict[str, None] = field(default_factory=dict)
    commits: set[tuple[str, str]] = field(default_factory=set)
    tallies: dict[tuple[int, str], int] = field(default_factory=dict)
    leases: dict[str, tuple[str, Micros]] = field(default_factory=dict)
    tokens: dict[str, StoredToken] = field(default_factory=dict)


class MemoryStore:
    """Implements `ports.Store`; `clock` stands for the database's own, by which leases end."""

    def __init__(
        self, clock: Clock, *, data: MemoryData | None = None, commit_ids: Callable[[], str] = new_commit_id
    ) -> None:
        self._clock = clock
        self._new_id = commit_ids
        self.data = data if data is not None else MemoryData()

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

    async def by_payment(self, payment_id: str) -> Session | None:
        await asyncio.sleep(0)
        row = self.data.payments.get(payment_id)
        return self._session(row["session_id"]) if row else None

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

    # --- money without a session

    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        await asyncio.sleep(0)
        row = self.data.payments.get(unmatched.payment_id)
        if row is None:
            self.data.payments[unmatched.payment_id] = rows.unmatched_row(unmatched)
        elif row["session_id"] is None:
            row.update(rows.unmatched_row(rows.merged(rows.read_unmatched(row), unmatched)))
        return row is None

    async def unmatched(self, limit: int) -> list[Unmatched]:
        await asyncio.sleep(0)
        mine = [row for row in self.data.payments.values() if row["session_id"] is None]
        mine.sort(key=lambda row: (row["seen_at"], row["payment_id"]))
        return [rows.read_unmatched(row) for row in mine[: page(limit)]]

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
        return [self._read(_leased(row, owner, clock, lease_seconds)) for row in due[: page(limit)]]

    async def blank(self, *, finished_before: Micros, late_before: Micros, now: Micros, limit: int) -> int:
        await asyncio.sleep(0)
        cutoffs = {
            Status.PAID: finished_before,
            Status.EXPIRED: late_before,
            Status.CANCELLED: late_before,
        }
        over = [row for row in self.data.sessions.values() if self._blankable(row, cutoffs)]
        over.sort(key=lambda row: (row["updated_at"], row["id"]))
        for row in over[: page(limit)]:
            session = self._read(row)
            self._commit(Change(session, blanked(session, now), self._new_id()))
        return len(over[: page(limit)])

    # --- the outbox

    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        await asyncio.sleep(0)
        waiting = [self.data.events[id_] for id_ in self.data.waiting]
        unnumbered = [row for row in waiting if row["state"] == EventState.UNNUMBERED]
        ids = rows.in_order(unnumbered, limit)
        for id_ in ids:
            self.data.numbers.append(id_)
            state = EventState.NUMBERED if deliver else EventState.DELIVERED
            self.data.events[id_].update(no=len(self.data.numbers), state=state)
            if not deliver:
                del self.data.waiting[id_]
        return len(ids)

    async def claim_events(self, owner: str, limit: int, lease_seconds: float) -> list[NumberedEvent]:
        await asyncio.sleep(0)
        clock = self._clock()
        first: dict[str, _Row] = {}
        for row in map(self.data.events.__getitem__, self.data.waiting):
            earlier = first.get(row["session_id"])
            if earlier is None or row["seq"] < earlier["seq"]:
                first[row["session_id"]] = row
        ready = [r for r in first.values() if r["state"] == EventState.NUMBERED and r["lease_until"] <= clock]
        ready.sort(key=lambda row: int(row["no"]))
        return [_numbered(_leased(row, owner, clock, lease_seconds)) for row in ready[: page(limit)]]

    async def events_done(self, owner: str, event_ids: Sequence[str]) -> None:
        await asyncio.sleep(0)
        for id_ in event_ids:
            row = self.data.events.get(id_)
            if row and row["state"] == EventState.NUMBERED and row["lease_owner"] == owner:
                row["state"] = EventState.DELIVERED
                del self.data.waiting[id_]

    async def events(self, after: int, limit: int) -> list[NumberedEvent]:
        await asyncio.sleep(0)
        first = max(after, 0)
        ids = self.data.numbers[first : first + page(limit)]
        return [_numbered(self.data.events[id_]) for id_ in ids]

    async def history(self, session_id: str, limit: int) -> list[Event]:
        await asyncio.sleep(0)
        ids = self.data.histories.get(session_id, [])[: page(limit)]
        return [rows.read_event(self.data.events[id_]) for id_ in ids]

    # --- counts, leases, tokens

    async def stats(self, now: Micros) -> StoreStats:
        await asyncio.sleep(0)
        sessions, payments = self.data.sessions.values(), self.data.payments.values()
        due = [(row["currency"], row["refund_due"]) for row in payments if row["refund_due"] > 0]
        hour = now // rows.HOUR - rows.TALLY_HOURS
        return rows.stats(
            statuses=_counted(row["status"] for row in sessions),
            exceptions=_counted(row["exceptions"] for row in sessions),
            created_24h=sum(now - rows.DAY < row["created_at"] for row in sessions),
            orders=len(self.data.orders),
            refunds=[(currency, 1, amount) for currency, amount in due],
            unmatched=sum(row["session_id"] is None for row in payments),
            checks_due=sum(row["next_check_at"] is not None and row["next_check_at"] <= now for row in sessions),
            events_undelivered=len(self.data.waiting),
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

    async def _sent(self, write: Callable[[], T]) -> T:
        async def send() -> T:
            await asyncio.sleep(0)
            return self._send_commit(write)

        return await sent(send)

    def _send_commit(self, write: Callable[[], T]) -> T:
        return write()

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
        holders = {p.id: self.data.payments.get(p.id, {}).get("session_id") for p in change.payments}
        return frozenset(id_ for id_, holder in holders.items() if holder not in (None, change.after.id))

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
            data.payments[payment.id] = rows.payment_row(session.id, payment)
        for order in change.orders:
            data.orders[order.id] = rows.order_row(session.id, order)
        for row in rows.event_rows(change):
            data.events[row["id"]] = row
            data.histories.setdefault(session.id, []).append(row["id"])
            if row["state"] in rows.UNDELIVERED:
                data.waiting[row["id"]] = None

    def _session(self, session_id: str | None) -> Session | None:
        row = self.data.sessions.get(session_id) if session_id is not None else None
        return self._read(row) if row else None

    def _read(self, row: Mapping[str, Any]) -> Session:
        return rows.read_session(row["document"], row["version"])

    def _blankable(self, row: _Row, cutoffs: Mapping[Status, Micros]) -> bool:
        cutoff = cutoffs.get(Status(row["status"]))
        if cutoff is None or row["updated_at"] >= cutoff or row["blanked_at"] is not None:
            return False
        if row["unsettled"] or row["next_check_at"] is not None:
            return False
        return not any(id_ in self.data.waiting for id_ in self.data.histories[row["id"]])


def _numbered(row: Mapping[str, Any]) -> NumberedEvent:
    return NumberedEvent(row["no"], row["session_id"], rows.read_event(row))


def _leased(row: _Row, owner: str, clock: Micros, seconds: float) -> _Row:
    row.update(lease_owner=owner, lease_until=rows.lease_end(clock, seconds))
    return row


def _counted(values: Iterable[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return list(counts.items())


def _matches(row: Mapping[str, Any], query: SessionQuery) -> bool:
    position = (row["created_at"], row["id"])
    return (
        (query.status is None or row["status"] == query.status)
        and (query.exception is None or f",{query.exception}," in row["exceptions"])
        and (query.user_id is None or row["user_id"] == query.user_id)
        and (query.created_after is None or row["created_at"] > query.created_after)
        and (query.cursor is None or position < query.cursor)
    )
