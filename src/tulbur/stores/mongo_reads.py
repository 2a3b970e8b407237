"""The reading operations: of what a majority has committed, each bounded and answered by an index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tulbur.core.orders import Order
from tulbur.core.session import Event, Micros, Session, Status
from tulbur.ports import Leave, NumberedEvent, SessionQuery, StoredToken, StoreStats
from tulbur.stores import mongo_documents as documents
from tulbur.stores import mongo_outbox as outbox
from tulbur.stores import mongo_schema as schema
from tulbur.stores import mongo_sweeps as sweeps
from tulbur.stores import mongo_worklist as worklist
from tulbur.stores import rows
from tulbur.stores.mongo_documents import Document, plain
from tulbur.stores.mongo_link import Work
from tulbur.stores.rows import EventState

STORED: Final[dict[str, Any]] = {"document": 1, "version": 1}


async def get(work: Work, session_id: str) -> Session | None:
    found = await work[schema.SESSIONS].find_one({"_id": session_id}, STORED)
    return documents.read_session(found) if found else None


async def by_invoice(work: Work, invoice_id: str) -> Session | None:
    key = {"provider": rows.PROVIDER, "invoice_id": invoice_id}
    found = await work[schema.INVOICES].find_one(key, {"session_id": 1})
    return await get(work, found["session_id"]) if found else None


async def by_sender(work: Work, sender_invoice_no: str) -> Session | None:
    found = await work[schema.INVOICES].find_one({"sender_invoice_no": sender_invoice_no}, {"session_id": 1})
    return await get(work, found["session_id"]) if found else None


async def by_payment(work: Work, payment_id: str) -> Session | None:
    found = await work[schema.PAYMENTS].find_one({"_id": documents.payment_id(payment_id)}, {"session_id": 1})
    return await get(work, found["session_id"]) if found and found["session_id"] is not None else None


async def owner_of(work: Work, id_: str) -> str | None:
    """The session of an invoice number, or of an event."""
    found = await work[schema.INVOICES].find_one({"sender_invoice_no": id_}, {"session_id": 1})
    found = found or await work[schema.EVENTS].find_one({"_id": id_}, {"session_id": 1})
    return str(found["session_id"]) if found else None


async def order(work: Work, order_id: str) -> tuple[str, Order] | None:
    found = await work[schema.ORDERS].find_one({"_id": order_id})
    return (found["session_id"], rows.read_order(plain(found))) if found else None


def wanted(query: SessionQuery) -> Document:
    """The filter of a list."""
    asked: Document = {}
    if query.exception is not None:
        asked["exceptions"] = query.exception.value
    if query.status is not None:
        asked["status"] = query.status.value
    if query.user_id is not None:
        asked["user_id"] = query.user_id
    created: Document = {}
    if query.created_after is not None:
        created["$gt"] = query.created_after
    if query.created_before is not None:
        created["$lt"] = query.created_before
    if query.cursor is not None:
        at, id_ = query.cursor
        created["$lte"] = at
        asked["$or"] = [{"created_at": {"$lt": at}}, {"_id": {"$lt": id_}}]
    return asked | ({"created_at": created} if created else {})


def list_index(query: SessionQuery) -> str:
    """The index that orders the list: few sessions have exceptions, fewer belong to one user than have one status."""
    if query.exception is not None:
        return "exceptions"
    if query.user_id is not None:
        return "user"
    return "created" if query.status is None else "status"


async def find(work: Work, query: SessionQuery, count: int) -> list[Session]:
    """One page; `count` is one or more."""
    listed = work[schema.SESSIONS].find(
        wanted(query), STORED, sort=[("created_at", -1), ("_id", -1)], limit=count, hint=list_index(query)
    )
    return [documents.read_session(one) for one in await listed.to_list(count)]


async def published(work: Work, after: int, count: int) -> list[NumberedEvent]:
    found = work[schema.EVENTS].find({"no": {"$gt": max(after, 0)}}, sort=[("no", 1)], limit=count)
    return [documents.numbered(one) for one in await found.to_list(count)]


async def history(work: Work, session_id: str, count: int) -> list[Event]:
    found = work[schema.EVENTS].find({"session_id": session_id}, sort=[("seq", 1)], limit=count)
    return [rows.read_event(plain(one)) for one in await found.to_list(count)]


async def finished(work: Work, status: Status, before: Micros, count: int, leave: Leave) -> list[Document]:
    """The documents of sessions to blank, untouched for the longest time first; `count` is one or more."""
    found = await work[schema.SESSIONS].aggregate(
        [*_finished(status, before, leave), {"$limit": count}, {"$project": STORED}], hint="blank", session=work.session
    )
    return await found.to_list(count)


async def blankable(work: Work, cutoffs: Mapping[Status, Micros], most: int, leave: Leave) -> int:
    """How many there are to blank, counted no further than asked for."""
    count = 0
    for status, before in cutoffs.items():
        if count < most:
            stages = [*_finished(status, before, leave), {"$limit": most - count}, {"$count": "count"}]
            found = await (await work[schema.SESSIONS].aggregate(stages, hint="blank")).to_list(1)
            count += int(found[0]["count"]) if found else 0
    return count


async def next_late(work: Work, late_before: Micros, count: int, leave: Leave) -> list[Document]:
    """The documents of EXPIRED and CANCELLED sessions that `blank` takes next."""
    return [one for status in rows.LATE for one in await finished(work, status, late_before, count, leave)]


def _finished(status: Status, before: Micros, leave: Leave) -> list[Document]:
    wanted: Document = {
        "status": status.value,
        "blanked_at": None,
        "unsettled": 0,
        "updated_at": {"$lt": before},
        "next_check_at": None,
    }
    if leave.ids:
        wanted["_id"] = {"$nin": sorted(leave.ids)}
    told = outbox.nothing_before("_id", "") if leave.untold else []
    return [{"$match": wanted}, {"$sort": {"updated_at": 1}}, *told]


async def token_get(work: Work, login: str) -> StoredToken | None:
    found = await work[schema.TOKENS].find_one({"_id": login})
    return StoredToken(found["access_token"], found["refresh_token"], int(found["expires_at"])) if found else None


async def stats(work: Work, now: Micros) -> StoreStats:
    """Counts that indexes answer; no session's document is read."""
    hour = now // rows.HOUR - rows.TALLY_HOURS
    return rows.stats(
        statuses=[(status.value, await _count(work, schema.SESSIONS, {"status": status.value})) for status in Status],
        exceptions=[
            (one["_id"], one["count"])
            for one in await _grouped(work, schema.SESSIONS, "exceptions", {"exceptions": {"$gt": ""}}, unwind=True)
        ],
        refunds=await _sums(work, "refund_due"),
        held=await _sums(work, "held"),
        loads=[
            (one["_id"], int(one["sum"]))
            for one in await _grouped(work, schema.TALLIES, "name", {"hour": {"$gt": hour}}, summed="count")
        ],
        created_24h=await _count(work, schema.SESSIONS, {"created_at": {"$gt": now - rows.DAY}}),
        orders=await work[schema.ORDERS].count_documents({}, hint="_id_"),
        unmatched=await _count(work, schema.PAYMENTS, worklist.OPEN, "open"),
        checks_due=await _count(work, schema.SESSIONS, {"next_check_at": {"$lte": now}}),
        events_undelivered=sum(
            [await _count(work, schema.EVENTS, {"state": int(state)}, _WAITING[state]) for state in rows.UNDELIVERED]
        ),
        events_parked=await _count(work, schema.EVENTS, outbox.PARKED, "parked"),
        swept_until=await sweeps.until(work),
    )


async def _sums(work: Work, part: str) -> list[tuple[str, int, int]]:
    """Of the few payments of which a part waits: by currency, how many and how much; its index has its name."""
    found = await _grouped(work, schema.PAYMENTS, "currency", {part: {"$gt": 0}}, summed=part, hint=part)
    return [(one["_id"], one["count"], int(one["sum"])) for one in found]


_WAITING: Final = {EventState.UNNUMBERED: "unnumbered", EventState.NUMBERED: "undelivered"}


async def _count(work: Work, name: str, query: Document, hint: str = "") -> int:
    found = await work[name].aggregate(
        [{"$match": query}, {"$group": {"_id": None, "count": {"$sum": 1}}}], **_hinted(hint)
    )
    return sum([int(one["count"]) for one in await found.to_list()])


async def _grouped(
    work: Work, name: str, field: str, query: Document, *, summed: str = "", unwind: bool = False, hint: str = ""
) -> list[Document]:
    total = {"sum": {"$sum": f"${summed}"}} if summed else {}
    found = await work[name].aggregate(
        [
            {"$match": query},
            *([{"$unwind": f"${field}"}] if unwind else []),
            {"$group": {"_id": f"${field}", "count": {"$sum": 1}, **total}},
        ],
        **_hinted(hint),
    )
    return await found.to_list()


def _hinted(hint: str) -> dict[str, Any]:
    return {"hint": hint} if hint else {}
