"""The writing operations: coroutines of a transaction under way, which is undone when they raise.

Commits are first written as if nothing stood in the way. Who is refused by a unique index, or finds another version,
says `Refused`, and is decided anew by what a snapshot shows (`mongo_deciding`). A write that the snapshot does not know
of is a conflict, for which MongoDB asks to run the whole transaction again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from bson.int64 import Int64
from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from tulbur.core.session import Micros, Payment, Session
from tulbur.ports import CommitResult, Committed, StoredToken
from tulbur.stores import mongo_documents as documents
from tulbur.stores import mongo_schema as schema
from tulbur.stores import rows
from tulbur.stores.mongo_documents import Document, stored
from tulbur.stores.mongo_link import Work, is_duplicate
from tulbur.stores.rows import Change

_NEVER_CHANGED = frozenset({"_id", *rows.FIXED})


class Refused(Exception):
    """Undo the transaction: a key is taken, or a version is another; the sentence says which."""


async def add(work: Work, change: Change) -> None:
    """Insert a new session with its rows; Refused when any key of it is taken."""
    await _unless_taken("the session", work[schema.SESSIONS].insert_one(_session(change), session=work.session))
    await write_rows(work, [change])


async def commit_all(work: Work, changes: Sequence[Change]) -> list[CommitResult]:
    """Win every change, or say Refused."""
    if changes:
        await write(work, changes)
    return [Committed.WON] * len(changes)


async def write(work: Work, changes: Sequence[Change]) -> None:
    """Compare-and-set the sessions and write their rows."""
    done = await work[schema.SESSIONS].bulk_write([_compare_and_set(one) for one in changes], session=work.session)
    if done.matched_count < len(changes):
        raise Refused("another version")
    await write_rows(work, changes)


async def keep_back(work: Work, sessions: Sequence[Session]) -> None:
    """Note of sessions that are not over that they are not to be blanked."""
    updates = [
        UpdateOne({"_id": one.id, "version": one.version}, {"$set": {"unsettled": Int64(rows.kept_back(one))}})
        for one in sessions
    ]
    if updates:
        await work[schema.SESSIONS].bulk_write(updates, session=work.session)


def _session(change: Change) -> Document:
    return documents.session_document(change)


def _compare_and_set(change: Change) -> UpdateOne:
    values = {name: value for name, value in _session(change).items() if name not in _NEVER_CHANGED}
    return UpdateOne({"_id": change.after.id, "version": change.version - 1}, {"$set": values})


async def write_rows(work: Work, changes: Sequence[Change]) -> None:
    attempts = [documents.invoice_document(c.after.id, attempt) for c in changes for attempt in c.attempts]
    await _bulk(work, schema.INVOICES, rows.INVOICE_TAKEN, [_upsert(one) for one in attempts])
    claims = [_claim(c, payment) for c in changes for payment in c.payments]
    await _bulk(work, schema.PAYMENTS, "a payment is taken", claims)
    orders = [documents.order_document(c.after.id, order) for c in changes for order in c.orders]
    await _insert(work, schema.ORDERS, rows.ORDERED_ALREADY, orders)
    events = [document for change in changes for document in documents.event_documents(change)]
    await _insert(work, schema.EVENTS, rows.TOLD_ALREADY, events)


def _upsert(document: Document) -> UpdateOne:
    values = {name: value for name, value in document.items() if name != "_id"}
    return UpdateOne({"_id": document["_id"]}, {"$set": values}, upsert=True)


def _claim(change: Change, payment: Payment) -> UpdateOne:
    """One that is not to be had does not match, and so cannot be inserted either."""
    document = documents.payment_document(change.after.id, payment)
    values = {name: value for name, value in document.items() if name != "_id"}
    ours: Document = {"_id": document["_id"], "session_id": {"$in": [None, document["session_id"]]}}
    if payment.id in change.assigned:
        ours["closed_at"] = None
    return UpdateOne(ours, {"$set": values}, upsert=True)


async def _bulk(work: Work, name: str, refusal: str, operations: Sequence[UpdateOne]) -> None:
    if operations:
        await _unless_taken(refusal, work[name].bulk_write(list(operations), session=work.session))


async def _insert(work: Work, name: str, refusal: str, made: Sequence[Document]) -> None:
    if made:
        await _unless_taken(refusal, work[name].insert_many(made, session=work.session))


async def _unless_taken(refusal: str, writing: Awaitable[object]) -> None:
    try:
        await writing
    except PyMongoError as error:
        if is_duplicate(error):
            raise Refused(refusal) from error
        raise


async def claim_due(
    work: Work, *, now: Micros, clock: Micros, owner: str, count: int, lease_seconds: float
) -> list[Mapping[str, Any]]:
    """The documents of leased sessions, the longest due first; `count` is one or more."""
    due = work[schema.SESSIONS].find(
        {"next_check_at": {"$lte": now}, "lease_until": {"$lte": clock}},
        {"document": 1, "version": 1},
        sort=[("next_check_at", 1), ("_id", 1)],
        limit=count,
        session=work.session,
    )
    found = await due.to_list(count)
    if found:
        await work[schema.SESSIONS].update_many(
            {"_id": {"$in": [one["_id"] for one in found]}},
            {"$set": stored({"lease_owner": owner, "lease_until": rows.lease_end(clock, lease_seconds)})},
            session=work.session,
        )
    return list(found)


async def tally(work: Work, now: Micros, loads: Mapping[str, int]) -> None:
    hour = now // rows.HOUR
    await work[schema.TALLIES].delete_many({"hour": {"$lt": hour - rows.TALLIES_KEPT_HOURS}}, session=work.session)
    adding = [
        UpdateOne(
            {"_id": stored({"hour": hour, "name": name})},
            {"$inc": stored({"count": count}), "$setOnInsert": stored({"hour": hour, "name": name})},
            upsert=True,
        )
        for name, count in sorted(loads.items())
    ]
    if adding:
        await work[schema.TALLIES].bulk_write(adding, session=work.session)


async def lease(work: Work, *, name: str, owner: str, clock: Micros, seconds: float) -> bool:
    held = await work[schema.LEASES].find_one({"_id": name}, session=work.session)
    if held is not None and held["owner"] != owner and held["until"] > clock:
        return False
    taken = {"owner": owner, "until": rows.lease_end(clock, seconds)}
    await work[schema.LEASES].update_one({"_id": name}, {"$set": stored(taken)}, upsert=True, session=work.session)
    return True


async def token_put(work: Work, login: str, token: StoredToken) -> None:
    values = {
        "access_token": token.access_token,
        "refresh_token": token.refresh_token,
        "expires_at": token.expires_at,
    }
    await work[schema.TOKENS].update_one({"_id": login}, {"$set": stored(values)}, upsert=True, session=work.session)
