"""What remains of a session when its time is over: ids, status, amounts and every key, but nobody's data."""

from __future__ import annotations

from dataclasses import replace

from tulbur.core.session import Micros, Payment, Session


def blanked(session: Session, now: Micros) -> Session:
    """Take out cart, shipping, texts, pictures and raw answers; what an order holds stays with the order.

    Fields of a later release go too: whether they hold somebody's data cannot be known here.
    """
    if session.blanked_at is not None:
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
