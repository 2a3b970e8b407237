"""The outbox: committed events get their numbers, are leased in order, and are marked as delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import UpdateOne

from tulbur.core.session import Micros
from tulbur.ports import MOST_ROWS
from tulbur.stores import mongo_schema as schema
from tulbur.stores import rows
from tulbur.stores.mongo_documents import Document, stored
from tulbur.stores.mongo_link import Work
from tulbur.stores.rows import EventState

MOST_WAITING: Final = 20 * MOST_ROWS
"""Unnumbered events looked at in one go."""

UNDELIVERED: Final = [int(state) for state in rows.UNDELIVERED]


def nothing_before(name: str, seq: str) -> list[Document]:
    """Stages that keep whose session, in field `name`, has no undelivered event, or none before field `seq`."""
    earlier = {"$match": {"state": {"$in": UNDELIVERED}}}
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
    last = await events.find_one({"no": {"$gt": 0}}, {"no": 1}, sort=[("no", -1)], session=work.session)
    state = EventState.NUMBERED if deliver else EventState.DELIVERED
    numbering = [
        UpdateOne({"_id": id_, **waiting}, {"$set": stored({"no": number, "state": state})})
        for number, id_ in enumerate(ids, int(last["no"]) + 1 if last else 1)
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


async def done(work: Work, owner: str, event_ids: Sequence[str]) -> None:
    mine = {"_id": {"$in": list(event_ids)}, "lease_owner": owner, "state": int(EventState.NUMBERED)}
    ended = stored({"state": EventState.DELIVERED, "lease_owner": None, "lease_until": 0})
    await work[schema.EVENTS].update_many(mine, {"$set": ended}, session=work.session)
