"""What becomes of commits that were refused, decided by one snapshot: who holds which key, and whose version it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tulbur.errors import Conflict, SessionExists
from tulbur.ports import CommitResult, Committed, PaymentTaken
from tulbur.stores import mongo_documents as documents
from tulbur.stores import mongo_schema as schema
from tulbur.stores import rows
from tulbur.stores.mongo_documents import Document
from tulbur.stores.mongo_link import Work
from tulbur.stores.mongo_writes import write, write_rows
from tulbur.stores.rows import Change

PAYMENT_TAKEN = "a payment of this session belongs to another one"


async def commit_each(work: Work, changes: Sequence[Change]) -> list[CommitResult | Conflict]:
    """Write the good ones; what became of each. Refused only where two of one batch want the same key."""
    known = await _look(work, changes)
    results: list[CommitResult | Conflict] = []
    good: list[Change] = []
    for change in changes:
        result = known.judged(change)
        results.append(result)
        if result is Committed.WON and (change.commit_id, change.after.id) not in known.commits:
            known.learn(change)
            good.append(change)
    if good:
        await write(work, good)
    return results


async def add(work: Work, change: Change) -> SessionExists | Conflict | None:
    """Insert the session, or say why not; it may be there already by an earlier sending of this very change."""
    session = change.after
    sessions, wanted = work[schema.SESSIONS], {"_id": session.id}
    holder = await sessions.find_one(wanted, {"_id": 1}, session=work.session)
    if holder is None and session.idempotency_key is not None:
        key = {"scope": session.scope, "idempotency_key": session.idempotency_key}
        holder = await sessions.find_one(key, {"_id": 1}, session=work.session)
    known = await _look(work, [change])
    if holder is not None:
        return None if (change.commit_id, session.id) in known.commits else SessionExists(holder["_id"])
    if known.taken(change):
        return Conflict(PAYMENT_TAKEN)
    if refusal := known.refusal(change):
        return Conflict(refusal)
    await sessions.insert_one(documents.session_document(change), session=work.session)
    await write_rows(work, [change])
    return None


@dataclass
class _Known:
    """Who holds what."""

    versions: dict[str, int] = field(default_factory=dict)
    commits: set[tuple[str, str]] = field(default_factory=set)
    payments: dict[str, str | None] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    invoices: dict[str, str] = field(default_factory=dict)
    senders: dict[str, tuple[str, int]] = field(default_factory=dict)
    orders: set[str] = field(default_factory=set)
    shops: set[tuple[str, str]] = field(default_factory=set)
    events: set[str] = field(default_factory=set)

    def judged(self, change: Change) -> CommitResult | Conflict:
        session_id = change.after.id
        if (change.commit_id, session_id) in self.commits:
            return Committed.WON
        if self.versions.get(session_id) != change.version - 1:
            return Committed.LOST
        if taken := self.taken(change):
            return PaymentTaken(taken)
        refusal = self.refusal(change)
        return Conflict(refusal) if refusal else Committed.WON

    def taken(self, change: Change) -> frozenset[str]:
        holders = {payment.id: self.payments.get(payment.id) for payment in change.payments}
        others = {id_ for id_, holder in holders.items() if holder not in (None, change.after.id)}
        return frozenset(others | (change.assigned & self.closed))

    def refusal(self, change: Change) -> str:
        session_id = change.after.id
        for attempt in change.attempts:
            mine = (session_id, attempt.number)
            if self.senders.get(attempt.sender_invoice_no, mine) != mine:
                return rows.INVOICE_TAKEN
            if attempt.id is not None and self.invoices.get(attempt.id, session_id) != session_id:
                return rows.INVOICE_TAKEN
        if any(o.id in self.orders or (session_id, o.shop_id) in self.shops for o in change.orders):
            return rows.ORDERED_ALREADY
        return rows.TOLD_ALREADY if any(event.id in self.events for event in change.after.news) else ""

    def learn(self, change: Change) -> None:
        """A good change takes its keys, so that a later one of the batch meets them."""
        session_id = change.after.id
        self.payments.update((payment.id, session_id) for payment in change.payments)
        for attempt in change.attempts:
            self.senders[attempt.sender_invoice_no] = (session_id, attempt.number)
            if attempt.id is not None:
                self.invoices[attempt.id] = session_id
        self.orders.update(order.id for order in change.orders)
        self.events.update(event.id for event in change.after.news)


async def _look(work: Work, changes: Sequence[Change]) -> _Known:
    """Everything that stands under a key of these changes; each query asks for these keys alone."""
    ids = [change.after.id for change in changes]
    attempts = [attempt for change in changes for attempt in change.attempts]
    known = _Known()
    for one in await _found(work, schema.SESSIONS, {"_id": {"$in": ids}}, "version"):
        known.versions[one["_id"]] = int(one["version"])
    mine = {"commit_id": {"$in": sorted({change.commit_id for change in changes})}, "session_id": {"$in": ids}}
    for one in await _found(work, schema.EVENTS, mine, "commit_id", "session_id"):
        known.commits.add((one["commit_id"], one["session_id"]))
    paid = [documents.payment_id(payment.id) for change in changes for payment in change.payments]
    for one in await _found(work, schema.PAYMENTS, _any("_id", paid), "payment_id", "session_id", "closed_at"):
        known.payments[one["payment_id"]] = one["session_id"]
        if one.get("closed_at") is not None:
            known.closed.add(one["payment_id"])
    named = {"provider": rows.PROVIDER, **_any("invoice_id", (a.id for a in attempts if a.id is not None))}
    for one in await _found(work, schema.INVOICES, named, "invoice_id", "session_id"):
        known.invoices[one["invoice_id"]] = one["session_id"]
    sent = _any("sender_invoice_no", (attempt.sender_invoice_no for attempt in attempts))
    for one in await _found(work, schema.INVOICES, sent, "sender_invoice_no", "session_id", "number"):
        known.senders[one["sender_invoice_no"]] = (one["session_id"], int(one["number"]))
    buyers = [change.after.id for change in changes if change.orders]
    made = [order.id for change in changes for order in change.orders]
    for query in (_any("session_id", buyers), _any("_id", made)):
        for one in await _found(work, schema.ORDERS, query, "session_id", "shop_id"):
            known.orders.add(one["_id"])
            known.shops.add((one["session_id"], one["shop_id"]))
    told = [event.id for change in changes for event in change.after.news]
    known.events.update(one["_id"] for one in await _found(work, schema.EVENTS, _any("_id", told)))
    return known


def _any(field: str, values: Iterable[object]) -> Document:
    return {field: {"$in": list(values)}}


async def _found(work: Work, name: str, query: Document, *fields: str) -> list[Document]:
    if any(isinstance(wanted, dict) and wanted.get("$in") == [] for wanted in query.values()):
        return []
    projection: dict[str, Any] = {"_id": 1, **dict.fromkeys(fields, 1)}
    return await work[name].find(query, projection, session=work.session).to_list()
