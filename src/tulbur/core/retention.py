"""What remains of a session when its time is over: ids, status, amounts and every key, but nobody's data."""

from __future__ import annotations

from tulbur.core.custody import Custody
from tulbur.core.money import Mongo
from tulbur.core.schedule import waiting
from tulbur.core.session import Micros, Payment, Session, Status
from tulbur.core.values import replace


def unsettled(session: Session) -> Mongo:
    """What keeps a session from being blanked, as one number that a store can keep: 0 is nothing.

    Money that is held or due back, in whatever currency; or 1, where it is in the hands of the old shop, a refund is
    under way, or a payment was named that nobody has found or given up yet.
    """
    money = sum(p.held + p.refund_due for p in session.payments)
    awaited = bool(waiting(session.hints)) or any(p.refund for p in session.payments)
    return money or int(awaited or session.custody is not Custody.OURS)


def is_over(session: Session) -> bool:
    """Whether nothing is waited for any more: no money, no answer, no look, and no other system."""
    return session.status is not Status.PENDING and not session.looks and not unsettled(session)


def blanked(session: Session, now: Micros) -> Session:
    """Take out cart, shipping, texts, pictures and raw answers; what an order holds stays with the order.

    A session that is not over stays as it is. Fields of a later release go too: whether they hold somebody's data
    cannot be known here.
    """
    if session.blanked_at is not None or not is_over(session):
        return session
    after = replace(
        session,
        items=(),
        discount=None,
        shipping={},
        metadata={},
        description="",
        return_url=None,
        attempts=tuple(replace(a, qr_text="", qr_image="", short_url="", links=(), later=()) for a in session.attempts),
        payments=tuple(_bare(p) for p in session.payments),
        hints=tuple(replace(h, later=()) for h in session.hints),
        claim=replace(session.claim, later=()) if session.claim else None,
        later=(),
        blanked_at=now,
    )
    return after.with_news("session.blanked", now)


def _bare(p: Payment) -> Payment:
    """Who paid back, and with which reference, stays: it is the shop's own book."""
    return replace(p, raw="", refunds=tuple(replace(refund, note="", later=()) for refund in p.refunds), later=())
