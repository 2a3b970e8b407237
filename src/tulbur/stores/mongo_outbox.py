"""The outbox: committed events get their numbers, are leased in order, and are marked as delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import UpdateOne

from tulbur.core.session import Micros
from tulbur.ports import MOST_ROWS, EventDelivery, Replayed
from tulbur.stores import mongo_schema as schema
from tulbur.stores import rows
from tulbur.stores.mongo_documents import Document, plain, stored
from tulbur.stores.mongo_link import Work
from tulbur.stores.rows import EventState

MOST_WAITING: Final = 20 * MOST_ROWS
"""Unnumbered events looked at in one go."""

UNDELIVERED: Final = [int(state) for state in rows.UNDELIVERED]
UNTOLD: Final = [int(state) for state in rows.UNTOLD]
REPLAYABLE: Final = [int(state) for state in rows.REPLAYABLE]
PARKED: Final[Document] = {"state": int(EventState.PARKED)}


def nothing_before(name: str, seq: str) -> list[Document]:
    """Stages that keep whose session, in field `name`, has nobody to tell anything, or nothing before field `seq`.

    A parked event is in no later one's way, yet is to be told some day.
    """
    earlier = {"$match": {"state": {"$in": UNDELIVERED if seq else UNTOLD}}}
    before = {"$match": {"$expr": {"$lt": ["$seq", "$$seq"]}}}
    lookup: Document = {
        "from": schema.EVENTS,
        "localField": name,
        "foreignField": "session_id",
        "pipeline": [*([before] if seq else []), earlier, {"$limit": 1}, {"$project": {"_id": 1}}],
        "as": "earlier",
    }
    if seq:
        lookup["let"] = {"seq": f"${seq}"}
    return [{"$lookup": lookup}, {"$match": {"earlier": []}}]


async def publish(work: Work, count: int, *, deliver: bool) -> int:
    """Give the next numbers; two publishers at once would meet at the unique number, and one starts again."""
    events = work[schema.EVENTS]
    waiting = {"state": int(EventState.UNNUMBERED)}
    oldest = events.find(waiting, {"session_id": 1}, sort=[("at", 1), ("_id", 1)], limit=count, session=work.session)
    session_ids = sorted({one["session_id"] for one in await oldest.to_list(count)})
    if not session_ids:
        return 0
    # In the order of each session's events, so that what is cut off is never an earlier one of theirs.
    of_sessions = events.find(
        {"session_id": {"$in": session_ids}, **waiting},
        {"session_id": 1, "seq": 1, "at": 1},
        sort=[("session_id", 1), ("seq", 1)],
        limit=MOST_WAITING,
        hint="session",
        session=work.session,
    )
    ids = rows.in_order([{**one, "id": one["_id"]} for one in await of_sessions.to_list(MOST_WAITING)], count)
    last = await _last_number(work)
    state = EventState.NUMBERED if deliver else EventState.DELIVERED
    numbering = [
        UpdateOne({"_id": id_, **waiting}, {"$set": stored({"no": number, "state": state})})
        for number, id_ in enumerate(ids, last + 1)
    ]
    await events.bulk_write(numbering, session=work.session)
    return len(numbering)


async def claim(
    work: Work, *, clock: Micros, owner: str, count: int, lease_seconds: float
) -> Sequence[Mapping[str, Any]]:
    """The leased events' documents in the order of their numbers; `count` is one or more."""
    ready = await work[schema.EVENTS].aggregate(
        [
            {"$match": {"state": int(EventState.NUMBERED), "lease_until": {"$lte": clock}}},
            {"$sort": {"no": 1}},
            *nothing_before("session_id", "seq"),
            {"$limit": count},
        ],
        hint="undelivered",
        session=work.session,
    )
    found = await ready.to_list(count)
    if found:
        await work[schema.EVENTS].update_many(
            {"_id": {"$in": [one["_id"] for one in found]}},
            {"$set": stored({"lease_owner": owner, "lease_until": rows.lease_end(clock, lease_seconds)})},
            session=work.session,
        )
    return found


async def done(work: Work, clock: Micros, owner: str, event_ids: Sequence[str]) -> None:
    mine = {"_id": {"$in": list(event_ids)}, "lease_owner": owner, "state": int(EventState.NUMBERED)}
    await work[schema.EVENTS].update_many(mine, {"$set": stored(rows.delivered(clock))}, session=work.session)


async def failed(work: Work, owner: str, event_ids: Sequence[str], *, retry_at: Micros | None) -> None:
    mine = {"_id": {"$in": list(event_ids)}, "lease_owner": owner, "state": int(EventState.NUMBERED)}
    ended = {"$set": stored(rows.failed(retry_at)), "$inc": stored({"attempts": 1})}
    await work[schema.EVENTS].update_many(mine, ended, session=work.session)


async def deliveries(work: Work, session_id: str, count: int) -> list[EventDelivery]:
    """A session's public events; `count` is one or more."""
    public = {"session_id": session_id, "state": {"$ne": int(EventState.PRIVATE)}}
    found = work[schema.EVENTS].find(public, sort=[("seq", 1)], limit=count, hint="session")
    return [rows.delivery(plain(one)) for one in await found.to_list(count)]


async def parked(work: Work, after: int, count: int) -> list[Document]:
    found = work[schema.EVENTS].find(
        {**PARKED, "no": {"$gt": max(after, 0)}}, sort=[("no", 1)], limit=count, hint="parked"
    )
    return await found.to_list(count)


async def replay(work: Work, after: int, *, since: Micros, before: Micros, count: int, parked_only: bool) -> Replayed:
    """Look at a page of numbers, from the first that may be of that time on; `count` is one or more."""
    first = max(after, await _before_number(work, since - rows.DISORDER))
    examined = work[schema.EVENTS].find(
        {"no": {"$gt": first}, **(PARKED if parked_only else {})},
        {"no": 1, "state": 1, "at": 1},
        sort=[("no", 1)],
        limit=count,
        hint="parked" if parked_only else "no",
        session=work.session,
    )
    found = [plain(one) for one in await examined.to_list(count)]
    ids = rows.replayable(found, since=since, before=before, parked_only=parked_only)
    again = await work[schema.EVENTS].update_many(
        {"_id": {"$in": ids}, "state": {"$in": REPLAYABLE}}, {"$set": stored(rows.AGAIN)}, session=work.session
    )
    return Replayed(again.modified_count, found[-1]["no"] if found else after)


async def _last_number(work: Work) -> int:
    last = await work[schema.EVENTS].find_one({"no": {"$gt": 0}}, {"no": 1}, sort=[("no", -1)], session=work.session)
    return int(last["no"]) if last else 0


async def _before_number(work: Work, at: Micros) -> int:
    """The number before the first event that is not older than `at`, found by halving: numbers follow time."""
    older, newer = 0, await _last_number(work) + 1
    while newer - older > 1:
        middle = (older + newer) // 2
        found = await work[schema.EVENTS].find_one({"no": middle}, {"at": 1}, session=work.session)
        if found and found["at"] < at:
            older = middle
        else:
            newer = middle
    return older
