"""Sessions we follow that no source names any more: what ended in Redis, and what a person has to decide.

Redis is read first and the database after it: what the old shop did before a key went is seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from tulbur.core.custody import Custody
from tulbur.core.session import Micros, Session, Status
from tulbur.errors import Invalid
from tulbur.importer.loose import Loose, wanted_by_ended
from tulbur.importer.processed import belonging, order_rows, processed_of
from tulbur.importer.report import Report
from tulbur.importer.rows import UNKNOWN_ORDERS, orders_by_shop, plain, processed_at
from tulbur.importer.sources import BATCH, Source
from tulbur.payments.desk import Desk
from tulbur.payments.moving import Left, old_sessions, take_over_complete, take_over_gone

if TYPE_CHECKING:  # of an extra, and needed where there are keys alone
    from tulbur.importer.keys import RedisKeys

_STILL: Final = "still followed"
_CHANGED: Final = "changed or gone in the source"
_NO_REDIS: Final = "it was in Redis alone, and Redis was not read; give --redis"


class Reading(Protocol):
    """The run over the old shop's data that this ends."""

    desk: Desk
    source: Source
    keys: RedisKeys | None
    cache_seconds: int
    loose: Loose

    def next_look(self) -> Micros: ...


async def take_over_the_rest(move: Reading, report: Report, told: Collection[str]) -> None:
    """Take over what is gone for good, and tell the rest; `told` are the sessions this reading has told already."""
    batch: list[Session] = []
    async for session in old_sessions(move.desk, paid=True):
        if session.custody is Custody.FOLLOWED and session.id not in told:
            batch.append(session)
        if len(batch) == BATCH:
            await _batch(move, report, batch)
            batch = []
    await _batch(move, report, batch)


async def _batch(move: Reading, report: Report, sessions: Sequence[Session]) -> None:
    gone = await _gone(move, sessions)
    away = [session for session in sessions if session.id in gone]
    left = await left_behind(move.source, move.loose, report, away)
    for session in sessions:
        claim = session.claim
        if claim is None:
            continue
        done, why = "ended in Redis, taken over", claim.review or _CHANGED
        if session.status is Status.PAID:
            await take_over_complete(move.desk, session.id, look_at=move.next_look(), cache_seconds=move.cache_seconds)
            done, why = "gone in the source with all its orders, taken over", ""
        elif session.id in left:
            why = await take_over_gone(
                move.desk, session.id, left[session.id], look_at=move.next_look(), cache_seconds=move.cache_seconds
            )
        elif claim.source == "redis" and move.keys is None and not claim.review:
            why = _NO_REDIS
        if why:
            report.amiss(session.id, _STILL, why)
        else:
            report.row_read(session.amount, session.currency)
            report.row_done(claim.status, done, session.amount, session.currency)


async def _gone(move: Reading, sessions: Sequence[Session]) -> Collection[str]:
    """Those that were in Redis alone, and are neither there nor in the database now."""
    ours = [s.id for s in sessions if s.claim and s.claim.source == "redis" and not s.claim.review]
    if move.keys is None or not ours:
        return ()
    there = {key.session_id for key in await move.keys.read(ours) if key.value is not None}
    there |= {str(plain(row.get("sessionId"))) for row in await move.source.known_sessions([], ours)}
    return set(ours) - there


async def left_behind(
    source: Source, loose_orders: Loose, report: Report, sessions: Sequence[Session]
) -> Mapping[str, Left]:
    """What their processed invoices say, and the loose orders that match them."""
    invoices = {session.id: [str(attempt.id) for attempt in session.asked_about] for session in sessions}
    every = [invoice for ids in invoices.values() for invoice in ids]
    processed = await processed_of(source, every, list(invoices))
    orders = await order_rows(source, processed)
    left = {}
    for session in sessions:
        mine, doubt = belonging(processed, session.id, invoices[session.id])
        try:
            made = orders_by_shop(mine, orders)
            at = processed_at(mine)
        except Invalid as wrong:
            made, at, doubt = {}, None, wrong.message
        if mine and not orders.readable and not made:
            doubt = doubt or UNKNOWN_ORDERS
        left[session.id] = Left(orders=made, processed_at=at, doubt=doubt)
    wanted = [wanted_by_ended(session, left[session.id]) for session in sessions if not left[session.id].doubt]
    loose = await loose_orders.find(report, wanted)
    return {
        id_: Left(orders={**each.orders, **loose.get(id_, {})}, processed_at=each.processed_at, doubt=each.doubt)
        for id_, each in left.items()
    }
