"""Moving in from the old shop: import and follow, take over, rescue what it lost; orders come by `settle` alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tulbur.core.custody import Custody
from tulbur.core.ending import ended
from tulbur.core.moving import OldSession, OldStatus, imported, reimported, taken_over
from tulbur.core.session import SECOND, Micros, Reason, Session, Status
from tulbur.errors import Conflict, SessionExists, StoreUnavailable
from tulbur.payments.desk import MOST_COMMITS, Desk
from tulbur.payments.settling import settle
from tulbur.ports import MOST_ROWS, Committed, SessionQuery

GONE_SECONDS: Final = 60
"""How long after the end of its key the old shop may go on with a session it had read before."""


class Import(StrEnum):
    """What became of one session of the old shop's that was read."""

    TAKEN = "taken"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    OURS = "ours already"
    CHANGED_AFTER = "changed in the old shop after it was taken over"
    NOT_OLD = "an own session has this id"
    INVOICE_TAKEN = "another session has its invoice"


class TakeOver(StrEnum):
    """Whether it is ours now."""

    TAKEN_OVER = "taken over"
    OURS = "ours already"
    REVIEW = "a person has to look at it first"
    CHANGED = "the old shop still works on it"
    MISSING = "not imported"


class Rescue(StrEnum):
    """What asking QPay about one claim of the old shop's brought."""

    ORDERED = "orders made now"
    UNPAID = "not paid at QPay"
    UNPROVEN = "called paid by the old shop, QPay shows no full payment"
    NO_INVOICE = "no invoice to ask QPay about"
    SILENT = "QPay did not answer"
    WAITS = "another question is under way"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done with one row, and the session as it is now; of a dry run, what would be."""

    done: Import
    session: Session | None


async def import_session(desk: Desk, old: OldSession, *, dry_run: bool = False) -> Outcome:
    """Store a session of the old shop's, or bring the one we follow up to date. Run again, it changes nothing."""
    for _ in range(MOST_COMMITS):
        stored = await desk.store.get(old.id)
        if stored is None:
            outcome = await _added(desk, imported(old, desk.clock()), dry_run=dry_run)
        elif stored.custody is Custody.FOLLOWED and stored.claim is not None:
            outcome = await _updated(desk, stored, reimported(stored, old, desk.clock()), dry_run=dry_run)
        else:
            outcome = Outcome(_settled(stored, old), stored)
        if outcome is not None:
            return outcome
    raise StoreUnavailable("the session is being changed too often; try again")


async def _added(desk: Desk, fresh: Session, *, dry_run: bool) -> Outcome | None:
    try:
        if not dry_run:
            await desk.store.add(fresh)
    except SessionExists:
        return None
    except Conflict:
        return Outcome(Import.INVOICE_TAKEN, None)
    return Outcome(Import.TAKEN, fresh if dry_run else fresh.committed())


async def _updated(desk: Desk, stored: Session, after: Session, *, dry_run: bool) -> Outcome | None:
    if after is stored:
        return Outcome(Import.UNCHANGED, stored)
    try:
        won = dry_run or await desk.commit(stored, after) is Committed.WON
    except Conflict:
        return Outcome(Import.INVOICE_TAKEN, stored)
    return Outcome(Import.UPDATED, after if dry_run else after.committed()) if won else None


def _settled(stored: Session, old: OldSession) -> Import:
    if stored.claim is None:
        return Import.NOT_OLD
    return Import.OURS if stored.claim.digest == old.digest else Import.CHANGED_AFTER


async def take_over(desk: Desk, old: OldSession, *, look_at: Micros, cache_seconds: int) -> TakeOver:
    """Make an imported session ours, if the row just read says what it said when it was imported."""
    for _ in range(MOST_COMMITS):
        stored = await desk.store.get(old.id)
        if stored is None or stored.claim is None:
            return TakeOver.MISSING
        if stored.custody is not Custody.FOLLOWED:
            return TakeOver.OURS
        if stored.claim.digest != old.digest:
            return TakeOver.CHANGED
        if await _taken(desk, stored, stored, look_at, cache_seconds):
            return TakeOver.REVIEW if stored.claim.review else TakeOver.TAKEN_OVER
    raise StoreUnavailable("the session is being changed too often; try again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What the old shop has left, in its database, of a session that its Redis holds no more."""

    orders: Mapping[str, str] = field(default_factory=dict)
    processed_at: Micros | None = None
    doubt: str = ""


async def take_over_gone(desk: Desk, session_id: str, left: Left, *, look_at: Micros, cache_seconds: int) -> str:
    """A session of the old shop's Redis alone that is gone there; why it is not ours yet, "" when it is.

    With all its orders it is ours at once. A key may have vanished before its time while the old shop works on what it
    had read, so that anything else waits until the key would have ended, and a minute more.
    """
    for _ in range(MOST_COMMITS):
        stored = await desk.stored(session_id)
        now = desk.clock()
        if stored.custody is not Custody.FOLLOWED:
            return ""
        ready = ended(stored, left.orders, left.processed_at, now, left.doubt)
        review = ready.claim.review if ready.claim else ""
        if not review and ready.status is not Status.PAID and now < stored.expires_at + GONE_SECONDS * SECOND:
            return "gone from Redis before its time; run it again when its time is over"
        if await _taken(desk, stored, ready, look_at, cache_seconds):
            return review
    raise StoreUnavailable("the session is being changed too often; try again")


async def take_over_complete(desk: Desk, session_id: str, *, look_at: Micros, cache_seconds: int) -> None:
    """A session with all its orders that no source names any more: nobody can make them again."""
    for _ in range(MOST_COMMITS):
        stored = await desk.stored(session_id)
        if stored.status is not Status.PAID or await _taken(desk, stored, stored, look_at, cache_seconds):
            return
    raise StoreUnavailable("the session is being changed too often; try again")


async def _taken(desk: Desk, stored: Session, ready: Session, look_at: Micros, cache_seconds: int) -> bool:
    after = taken_over(ready, desk.clock(), look_at=look_at, cache_seconds=cache_seconds)
    return after is stored or await desk.commit(stored, after) is Committed.WON


def needs_rescue(session: Session) -> bool:
    """Taken over, without orders, and not answered by QPay since."""
    claim = session.claim
    if claim is None or claim.taken_at is None or session.status is Status.PAID:
        return False
    return (session.last_check_at or 0) < claim.taken_at


async def rescue(desk: Desk, session: Session) -> Rescue:
    """Ask QPay about one of them; what is paid gets its orders, once, by the same door as every callback."""
    looked = await settle(desk, session.id, Reason.OPERATOR)
    if looked.session.status is Status.PAID:
        return Rescue.ORDERED
    if not looked.asked:
        return Rescue.WAITS
    if not looked.answered:
        return Rescue.SILENT
    claim = session.claim
    called_paid = claim is not None and claim.status in (OldStatus.PAID, OldStatus.PROCESSED)
    if called_paid:
        return Rescue.UNPROVEN
    return Rescue.UNPAID if looked.session.asked_about or looked.session.hints else Rescue.NO_INVOICE


_OPEN: Final = (Status.PENDING, Status.EXPIRED, Status.CANCELLED)


async def old_sessions(desk: Desk, *, paid: bool = False) -> AsyncIterator[Session]:
    """Every session that came from the old shop, page by page; with `paid` the ones that have orders, too."""
    for status in (*_OPEN, Status.PAID) if paid else _OPEN:
        cursor: tuple[Micros, str] | None = None
        while True:
            page = await desk.store.find(SessionQuery(status=status, cursor=cursor, limit=MOST_ROWS))
            for session in page:
                if session.claim is not None:
                    yield session
            if len(page) < MOST_ROWS:
                break
            cursor = page[-1].created_at, page[-1].id
