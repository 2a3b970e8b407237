"""The outbox statements: committed events get their numbers, are leased in order, and are marked as delivered."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, exists, func, not_, select

from tulbur.core.session import Micros
from tulbur.ports import EventDelivery, NumberedEvent, Replayed
from tulbur.stores import rows
from tulbur.stores.dialects import order_of
from tulbur.stores.rows import EventState, page
from tulbur.stores.schema import events

MOST_LOOKS: Final = 10
"""Times a publisher looks for events of which others have not just taken all."""

_LAST: Final = select(func.max(events.c.no))
_AT: Final = select(events.c.at).where(events.c.no >= bindparam("number")).order_by(events.c.no).limit(1)
_PARKED: Final = events.c.state == EventState.PARKED
_NUMBER: Final = events.update().where(events.c.id == bindparam("of_id"), events.c.state == EventState.UNNUMBERED)


def publish(connection: Connection, limit: int, *, deliver: bool = True) -> int:
    """Give the next numbers; two publishers at once would meet at the unique number, and one starts again."""
    ids: list[str] = []
    for _ in range(MOST_LOOKS):
        session_ids = _with_oldest(connection, limit)
        ids = _unnumbered(connection, session_ids, limit)
        if ids or not session_ids:
            break
    if not ids:
        return 0
    last = connection.execute(_LAST).scalar() or 0
    state = EventState.NUMBERED if deliver else EventState.DELIVERED
    made = [{"of_id": id_, "no": number, "state": state} for number, id_ in enumerate(ids, last + 1)]
    connection.execute(_NUMBER, made)
    return len(made)


def _with_oldest(connection: Connection, limit: int) -> set[str]:
    """The sessions of the events that have waited longest for a number."""
    oldest = (
        select(events.c.session_id)
        .where(events.c.state == EventState.UNNUMBERED, events.c.no.is_(None))
        .order_by(*order_of(connection, [events.c.no], events.c.at, events.c.id))
        .limit(page(limit))
    )
    return set(connection.execute(oldest).scalars())


def _unnumbered(connection: Connection, session_ids: set[str], limit: int) -> list[str]:
    """Ids in the order of their numbers to be; locked, so that what another publisher has numbered is found no more."""
    if not session_ids:
        return []
    # `+ 0`: by session is the short way, however few events a planner expects to be unnumbered.
    waiting = (
        select(events.c.id, events.c.session_id, events.c.seq, events.c.at)
        .where(events.c.session_id.in_(session_ids), events.c.state + 0 == EventState.UNNUMBERED)
        .order_by(events.c.session_id, events.c.seq)
        .with_for_update()
    )
    return rows.in_order(connection.execute(waiting).mappings().all(), limit)


def claim_events(
    connection: Connection, *, clock: Micros, owner: str, limit: int, lease_seconds: float
) -> list[NumberedEvent]:
    earlier = events.alias("earlier")
    # `+ 0`: by session is the short way to a handful, not by state to all that wait.
    blocked = exists().where(
        earlier.c.session_id == events.c.session_id,
        earlier.c.seq < events.c.seq,
        (earlier.c.state + 0).in_(rows.UNDELIVERED),
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
    return [rows.numbered(row) for row in found]


def events_done(connection: Connection, clock: Micros, owner: str, event_ids: Sequence[str]) -> None:
    mine = events.update().where(
        events.c.id.in_(event_ids), events.c.lease_owner == owner, events.c.state == EventState.NUMBERED
    )
    connection.execute(mine.values(**rows.delivered(clock)))


def events_failed(connection: Connection, owner: str, event_ids: Sequence[str], *, retry_at: Micros | None) -> None:
    mine = events.update().where(
        events.c.id.in_(event_ids), events.c.lease_owner == owner, events.c.state == EventState.NUMBERED
    )
    connection.execute(mine.values(**rows.failed(retry_at), attempts=events.c.attempts + 1))


def deliveries(connection: Connection, session_id: str, limit: int) -> list[EventDelivery]:
    """A session's public events; `+ 0`: by session is the short way to them."""
    public = select(events).where(events.c.session_id == session_id, events.c.state + 0 != EventState.PRIVATE)
    query = public.order_by(events.c.seq).limit(page(limit))
    return [rows.delivery(row) for row in connection.execute(query).mappings()]


def parked(connection: Connection, after: int, limit: int) -> list[NumberedEvent]:
    query = select(events).where(_PARKED, events.c.no > after).order_by(events.c.no).limit(page(limit))
    return [rows.numbered(row) for row in connection.execute(query).mappings()]


def replay(
    connection: Connection, after: int, *, since: Micros, before: Micros, limit: int, parked_only: bool
) -> Replayed:
    """Look at a page of numbers, from the first that may be of that time on."""
    first = max(after, _before_number(connection, since - rows.DISORDER))
    examined = select(events.c.id, events.c.no, events.c.state, events.c.at).where(events.c.no > first)
    if parked_only:
        examined = examined.where(_PARKED)
    found = connection.execute(examined.order_by(events.c.no).limit(page(limit))).mappings().all()
    ids = rows.replayable(found, since=since, before=before, parked_only=parked_only)
    again = events.update().where(events.c.id.in_(ids), events.c.state.in_(rows.REPLAYABLE))
    count = connection.execute(again.values(**rows.AGAIN)).rowcount if ids else 0
    return Replayed(count, found[-1]["no"] if found else after)


def _before_number(connection: Connection, at: Micros) -> int:
    """The number before the first event that is not older than `at`, found by halving: numbers follow time."""

    def at_of(number: int) -> Micros:
        return int(connection.execute(_AT, {"number": number}).scalar_one())

    last = connection.execute(_LAST).scalar() or 0
    return bisect_left(range(1, last + 1), at, key=at_of)
