"""Payments that wait for somebody: those without a session, looked at until they are closed, and the list of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tulbur.core.session import Micros
from tulbur.ports import Disposition, ListedPayment, PaymentQuery, Unmatched
from tulbur.stores import mongo_documents as documents
from tulbur.stores import mongo_schema as schema
from tulbur.stores import rows
from tulbur.stores.mongo_documents import Document, plain, stored
from tulbur.stores.mongo_link import Work

OPEN: Final[Document] = {"session_id": None, "closed_at": None}
_PAGE: Final = [("seen_at", 1), ("payment_id", 1)]

# What is on each list, and the index that holds just this in order.
_LISTS: Final[Mapping[Disposition, tuple[Document, str]]] = {
    Disposition.UNMATCHED: (OPEN, "open"),
    Disposition.HELD: ({"held": {"$gt": 0}}, "held"),
    Disposition.REFUND_DUE: ({"refund_due": {"$gt": 0}}, "due_back"),
}


async def record_unmatched(work: Work, unmatched: Unmatched) -> bool:
    known = await _known(work, unmatched.payment_id)
    if known is None:
        await work[schema.PAYMENTS].insert_one(documents.unmatched_document(unmatched), session=work.session)
    elif known["session_id"] is None:
        await _write(work, rows.merged(rows.read_unmatched(known), unmatched))
    return known is None


async def unmatched(work: Work, count: int) -> list[Unmatched]:
    found = work[schema.PAYMENTS].find(OPEN, sort=_PAGE, limit=count, hint="open")
    return [rows.read_unmatched(plain(one)) for one in await found.to_list(count)]


async def unmatched_payment(work: Work, payment_id: str) -> Unmatched | None:
    known = await _known(work, payment_id)
    return rows.read_unmatched(known) if known and known["session_id"] is None else None


async def unmatched_due(work: Work, now: Micros, count: int) -> list[Unmatched]:
    due = {**OPEN, "due_at": {"$gt": 0, "$lte": now}}
    found = work[schema.PAYMENTS].find(due, sort=[("due_at", 1), *_PAGE], limit=count, hint="looks")
    return [rows.read_unmatched(plain(one)) for one in await found.to_list(count)]


async def looked(work: Work, unmatched: Unmatched, before_due_at: Micros | None) -> bool:
    known = await _known(work, unmatched.payment_id)
    if known is None or not _is_open(known) or known["due_at"] != before_due_at:
        return False
    await _write(work, rows.looked(rows.read_unmatched(known), unmatched))
    return True


async def close(work: Work, payment_id: str, *, now: Micros, note: Mapping[str, str]) -> bool:
    """Close it; an earlier sending of this very call may have done so."""
    known, written = await _known(work, payment_id), rows.written(note)
    if known is None or known["session_id"] is not None:
        return False
    if known.get("closed_at") is not None:
        return rows.is_closed_so(known, now, written)
    await _set(work, payment_id, {"closed_at": now, "due_at": None, "note": written})
    return True


async def listed(work: Work, query: PaymentQuery, count: int) -> list[ListedPayment]:
    """One page; `count` is one or more."""
    waiting, index = _LISTS[query.disposition]
    wanted = dict(waiting)
    if query.cursor is not None:
        at, id_ = query.cursor
        wanted["seen_at"] = {"$gte": at}
        wanted["$or"] = [{"seen_at": {"$gt": at}}, {"payment_id": {"$gt": id_}}]
    found = work[schema.PAYMENTS].find(wanted, {"raw": 0}, sort=_PAGE, limit=count, hint=index)
    return [rows.read_payment(plain(one)) for one in await found.to_list(count)]


async def closed(work: Work, before: Micros, count: int) -> list[str]:
    """Those that keep a raw answer, found among all without a session, of which there are few."""
    raw = {"session_id": None, "closed_at": {"$lt": before}, "raw": {"$gt": ""}}
    found = work[schema.PAYMENTS].find(raw, {"payment_id": 1}, sort=_PAGE, limit=count, hint="session")
    return [one["payment_id"] for one in await found.to_list(count)]


async def blank(work: Work, payment_ids: Sequence[str]) -> None:
    keys = [documents.payment_id(id_) for id_ in payment_ids]
    over = {"_id": {"$in": keys}, "session_id": None, "closed_at": {"$gt": 0}}
    await work[schema.PAYMENTS].update_many(over, {"$set": {"raw": ""}}, session=work.session)


async def _known(work: Work, payment_id: str) -> Document | None:
    key = {"_id": documents.payment_id(payment_id)}
    known = await work[schema.PAYMENTS].find_one(key, session=work.session)
    return plain(known) if known else None


def _is_open(row: Document) -> bool:
    return row["session_id"] is None and row.get("closed_at") is None


async def _write(work: Work, unmatched: Unmatched) -> None:
    await _set(work, unmatched.payment_id, rows.unmatched_row(unmatched))


async def _set(work: Work, payment_id: str, values: Mapping[str, Any]) -> None:
    """A payment that a commit has claimed meanwhile is a conflict, for which all of it is run again."""
    key = {"_id": documents.payment_id(payment_id)}
    await work[schema.PAYMENTS].update_one(key, {"$set": stored(values)}, session=work.session)
