"""The outbox statements: committed events get their numbers, are leased in order, and are marked as delivered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, exists, func, not_, select

from tulbur.core.session import Micros
from tulbur.ports import NumberedEvent
from tulbur.stores import rows
from tulbur.stores.rows import EventState, page
from tulbur.stores.schema import events

_NUMBER: Final = events.update().where(events.c.id == bindparam("of_id"), events.c.state == EventState.UNNUMBERED)


def publish(connection: Connection, limit: int, *, deliver: bool = True) -> int:
    """Give the next numbers; two publishers at once would meet at the unique number, and one starts again."""
    oldest = (
        select(events.c.session_id)
        .where(events.c.state == EventState.UNNUMBERED, events.c.no.is_(None))
        .order_by(events.c.at, events.c.id)
        .limit(page(limit))
    )
    session_ids = set(connection.execute(oldest).scalars())
    if not session_ids:
        return 0
    # `+ 0`: by session is the short way, however few events a planner expects to be unnumbered.
    waiting = select(events.c.id, events.c.session_id, events.c.seq, events.c.at).where(
        events.c.session_id.in_(session_ids), events.c.state + 0 == EventState.UNNUMBERED
    )
    ids = rows.in_order(connection.execute(waiting).mappings().all(), limit)
    last = connection.execute(select(func.max(events.c.no))).scalar() or 0
    state = EventState.NUMBERED if deliver else EventState.DELIVERED
    numbered = [{"of_id": id_, "no": number, "state": state} for number, id_ in enumerate(ids, last + 1)]
    connection.execute(_NUMBER, numbered)
    return len(numbered)


def claim_events(
    connection: Connection, *, clock: Micros, owner: str, limit: int, lease_seconds: float
) -> list[NumberedEvent]:
    earlier = events.alias("earlier")
    blocked = exists().where(
        earlier.c.session_id == events.c.session_id,
        earlier.c.seq < events.c.seq,
        earlier.c.state.in_(rows.UNDELIVERED),
    )
    ready = (
        select(events)
        .where(events.c.state == EventState.NUMBERED, events.c.lease_until <= clock, not_(blocked))
        .order_by(events.c.no)
        .limit(page(limit))
        .with_for_update()
    )
    found = connection.execute(ready).mappings().all()
    if found:
        taking = events.update().where(events.c.id.in_([row["id"] for row in found]))
        until = rows.lease_end(clock, lease_seconds)
        connection.execute(taking.values(lease_owner=owner, lease_until=until))
    return [numbered(row) for row in found]


def events_done(connection: Connection, owner: str, event_ids: Sequence[str]) -> None:
    mine = events.update().where(
        events.c.id.in_(event_ids), events.c.lease_owner == owner, events.c.state == EventState.NUMBERED
    )
    connection.execute(mine.values(state=EventState.DELIVERED, lease_owner=None, lease_until=0))


def numbered(row: rows.Columns) -> NumberedEvent:
    return NumberedEvent(row["no"], row["session_id"], rows.read_event(row))
