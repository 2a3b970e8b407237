"""Hand sessions to the old shop and take them back, in an order in which a kill at any line loses and doubles nothing.

Out: QPay is asked once more, then the session is committed as handed over, then its key is written; so there is no
moment at which both shops may make its orders, and a key that is missing is written by the next run. Back: the key is
removed, then the old shop's orders are looked for, then the session is committed as ours.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from tulbur.core.custody import Custody
from tulbur.core.handing_over import SETTLED_FIRST, Stays, handed_over, stays, taken_back
from tulbur.core.old_shape import means, old_payload
from tulbur.core.schedule import waiting
from tulbur.core.session import SECOND, Micros, Reason, Session, Status
from tulbur.errors import Invalid
from tulbur.payments.desk import Desk
from tulbur.payments.settling import settle
from tulbur.ports import MOST_ROWS, OldKeys, SessionQuery

MOST_VALUE: Final = 1024 * 1024
"""Longest value of a key that is read as a session."""


class HandOver(StrEnum):
    """What became of one session; or one of `Stays`."""

    HANDED_OVER = "handed over"
    AGAIN = "handed over before, its key was missing and is written again"
    ENDED = "handed over before, its time is over"
    PAID_MEANWHILE = "paid after it was handed over: take it back"
    ORDERED = "paid at QPay, orders made here"
    SILENT = "QPay did not answer"
    UNSAYABLE = "the old shop's shape cannot say it"
    FOREIGN = "its key holds something else"
    BACK = "another run took it back meanwhile"


class TakeBack(StrEnum):
    """What became of one session that had been handed over."""

    TAKEN_BACK = "taken back"
    ORDERED = "taken back, orders made now"
    ORDERED_THERE = "taken back, the old shop had made its orders"
    CHANGED = "the old shop works on it, or has another session under its id"
    DOUBT = "what the old shop did with it is not clear, a person has to look"
    NOT_THERE = "not handed over"


@dataclass(frozen=True, slots=True)
class Handed:
    """What was done with one session, of a dry run what would be, and why in more words where there are any."""

    done: HandOver | Stays
    why: str = ""


async def hand_over(desk: Desk, keys: OldKeys, session_id: str, *, dry_run: bool = False) -> Handed:
    """Give one session to the old shop. Run again, it changes nothing, and writes a key that is missing."""
    session = await desk.stored(session_id)
    if session.custody is Custody.HANDED_OVER:
        return await _again(desk, keys, session, dry_run=dry_run)
    refused = await _refused(desk, keys, session)
    if refused is not None or dry_run:
        return refused or Handed(stays(session, desk.clock()) or HandOver.HANDED_OVER)
    settled = await _settled(desk, session_id)
    if settled is not None:
        return settled
    after = await desk.step(session_id, lambda s: handed_over(s, desk.clock()))
    if after.custody is not Custody.HANDED_OVER:
        return Handed(stays(after, desk.clock()) or Stays.ASKED)
    return Handed(await _written(desk, keys, after, HandOver.HANDED_OVER))


async def _refused(desk: Desk, keys: OldKeys, session: Session) -> Handed | None:
    """What QPay's answer would not change."""
    why = stays(session, desk.clock())
    if why is not None and why not in SETTLED_FIRST:
        return Handed(why)
    try:
        old_payload(session)
    except Invalid as unsayable:
        return Handed(HandOver.UNSAYABLE, unsayable.message)
    return None if await _is_free(keys, session) else Handed(HandOver.FOREIGN)


async def _settled(desk: Desk, session_id: str) -> Handed | None:
    """Money that is at QPay already makes its orders here; None when QPay shows no full payment."""
    looked = await settle(desk, session_id, Reason.OPERATOR)
    if looked.session.status is Status.PAID:
        return Handed(HandOver.ORDERED)
    if not looked.asked:
        return Handed(Stays.ASKED)
    return None if looked.answered else Handed(HandOver.SILENT)


async def _again(desk: Desk, keys: OldKeys, session: Session, *, dry_run: bool) -> Handed:
    """One that was handed over by an earlier run: the key may be missing, because that run died or Redis forgot."""
    if any(payment.received for payment in session.payments):
        return Handed(HandOver.PAID_MEANWHILE)
    if session.expires_at <= desk.clock():
        return Handed(HandOver.ENDED)
    if await keys.get(session.id) is not None:
        return Handed(Stays.BEFORE if await _is_free(keys, session) else HandOver.FOREIGN)
    if dry_run:
        return Handed(HandOver.AGAIN)
    return Handed(await _written(desk, keys, session, HandOver.AGAIN))


async def _written(desk: Desk, keys: OldKeys, session: Session, done: HandOver) -> HandOver:
    """Write its key for the rest of the payer's time; `done` when the old shop now has the session."""
    value = json.dumps(old_payload(session), ensure_ascii=False, separators=(",", ":")).encode()
    ttl = max((session.expires_at - desk.clock()) // SECOND, 1)
    if not await keys.put(session.id, value, ttl) and not await _is_free(keys, session):
        return HandOver.FOREIGN
    if (await desk.stored(session.id)).custody is Custody.HANDED_OVER:
        return done
    await withdraw(keys, session)  # whoever took it back did so before the key was there
    return HandOver.BACK


async def _is_free(keys: OldKeys, session: Session) -> bool:
    """Whether its key holds nothing, or this very session already."""
    value = await keys.get(session.id)
    return value is None or _holds(value, session)


def _holds(value: bytes, session: Session) -> bool:
    if len(value) > MOST_VALUE:
        return False
    try:
        found = json.loads(value, parse_float=Decimal)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and means(found, session)


async def withdraw(keys: OldKeys, session: Session, *, dry_run: bool = False) -> bool:
    """Take its key from the old shop, which then cannot begin with it any more; False when that may not be done."""
    value = await keys.get(session.id)
    if value is None:
        return True
    return _holds(value, session) and (dry_run or await keys.remove(session.id, value))


async def take_back(
    desk: Desk,
    keys: OldKeys,
    session_id: str,
    *,
    orders: Mapping[str, str],
    made_at: Micros | None = None,
    look_at: Micros,
    cache_seconds: int,
    dry_run: bool = False,
) -> TakeBack:
    """Make a session ours whose key is withdrawn; `orders` are the ones the old shop made. Then it settles."""

    def step(session: Session) -> Session:
        return taken_back(
            session, desk.clock(), look_at=look_at, cache_seconds=cache_seconds, orders=orders, made_at=made_at
        )

    before = await desk.stored(session_id)
    if before.custody is not Custody.HANDED_OVER:
        return TakeBack.NOT_THERE
    after = step(before) if dry_run else await desk.step(session_id, step)
    if not dry_run:
        await withdraw(keys, after)  # a run that hands over beside this one may have written it again
    if after.status is Status.PAID:
        return TakeBack.ORDERED_THERE
    if not dry_run and (any(payment.received for payment in after.payments) or waiting(after.hints)):
        after = (await settle(desk, session_id, Reason.OPERATOR)).session
    return TakeBack.ORDERED if after.status is Status.PAID else TakeBack.TAKEN_BACK


async def pending(desk: Desk) -> AsyncIterator[Sequence[Session]]:
    """Every pending session, page by page."""
    cursor: tuple[Micros, str] | None = None
    while True:
        page = await desk.store.find(SessionQuery(status=Status.PENDING, cursor=cursor, limit=MOST_ROWS))
        if page:
            yield page
        if len(page) < MOST_ROWS:
            return
        cursor = page[-1].created_at, page[-1].id
