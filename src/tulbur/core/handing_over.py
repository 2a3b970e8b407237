"""Sessions that go back to the old shop, and come back from it: the way out of a move, session by session.

Handed over, a session is the old shop's to make orders of. What QPay tells us of it meanwhile is kept: its money is
held and named `handed_over`, until somebody takes it back; then it settles like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from tulbur.core.custody import Claim, Custody
from tulbur.core.moving import OLD_TTL_SECONDS, OldStatus
from tulbur.core.old_shape import shown_invoice
from tulbur.core.orders import orders_for
from tulbur.core.schedule import first_rung, waiting
from tulbur.core.session import (
    ExceptionName,
    HintState,
    InvoiceState,
    Look,
    Micros,
    Reason,
    Session,
    Status,
)
from tulbur.core.settling import Evidence, after_answer
from tulbur.core.steps import with_exceptions
from tulbur.core.values import replace


class Stays(StrEnum):
    """Why a session is not handed over."""

    CLOSED = "not pending"
    THEIRS = "the old shop's already"
    BEFORE = "handed over before"
    MONEY = "money has come for it, it is settled here"
    NAMED = "something is amiss with it, it is settled here"
    HALF = "the old shop made some of its orders before, it is settled here"
    OVER = "the payer's time is over, it is settled here"
    NO_INVOICE = "it has no invoice to pay, it ends here"
    CREATING = "its invoice is being made"
    ANNOUNCED = "a payment was announced that QPay does not show yet"
    ASKED = "a question to QPay is under way"


SETTLED_FIRST: Final = frozenset({Stays.ANNOUNCED, Stays.ASKED})
"""What an answer of QPay's may put right."""


def stays(session: Session, now: Micros) -> Stays | None:
    """Why this session may not be given to the old shop now, or None. Two systems must never act on one payment."""
    if session.status is not Status.PENDING:
        return Stays.CLOSED
    if session.custody is not Custody.OURS:
        return Stays.THEIRS if session.custody is Custody.FOLLOWED else Stays.BEFORE
    creating = any(a.state is InvoiceState.CREATING and now < a.deadline for a in session.attempts)
    amiss = {
        Stays.MONEY: any(payment.received for payment in session.payments),
        Stays.NAMED: bool(session.exceptions),
        Stays.HALF: bool(session.claim and session.claim.orders),
        Stays.OVER: session.expires_at <= now,
        Stays.CREATING: creating,
        Stays.NO_INVOICE: shown_invoice(session) is None,
        Stays.ANNOUNCED: bool(waiting(session.hints)),
        Stays.ASKED: session.asks.busy_until > now,
    }
    return next((why for why, is_so in amiss.items() if is_so), None)


def handed_over(session: Session, now: Micros) -> Session:
    """Give an unpaid session to the old shop: nothing is looked at by itself, and the cache leaves its key alone."""
    if stays(session, now) is not None:
        return session
    shown = shown_invoice(session)
    after = replace(session, custody=Custody.HANDED_OVER, looks=(), cache_seconds=0)
    return after.with_news("session.handed_over", now, invoice_id=shown.id if shown else None)


def taken_back(
    session: Session,
    now: Micros,
    *,
    look_at: Micros,
    cache_seconds: int = OLD_TTL_SECONDS,
    orders: Mapping[str, str] | None = None,
    made_at: Micros | None = None,
) -> Session:
    """Ours again. `orders` are the ones the old shop made meanwhile, by shop ("" for all): they count, untold.

    With all of them it is PAID. Else QPay is asked at `look_at`, whatever was heard of it before: a callback may have
    been lost meanwhile.
    """
    if session.custody is not Custody.HANDED_OVER:
        return session
    hints = tuple(replace(h, seen_at=now) if h.state is HintState.WAITING else h for h in session.hints)
    looks = [Look(Reason.DEADLINE, max(look_at, session.expires_at)), Look(Reason.SWEEP, look_at)]
    if waiting(hints):
        looks.append(replace(first_rung(now), at=look_at))
    claim = _claim(session, orders or {}, now)
    after = replace(
        session,
        custody=Custody.OURS,
        claim=claim,
        hints=hints,
        looks=tuple(looks),
        cache_seconds=cache_seconds,
        metadata={**session.metadata, "old_order_ids": dict(claim.orders)} if claim.orders else session.metadata,
    ).with_news("session.taken_back", now, old_order_ids=dict(claim.orders))
    after = with_exceptions(after, after.exceptions - {ExceptionName.HANDED_OVER}, now)
    return _ordered_there(after, made_at or now, now) if _is_complete(after) else after


def _claim(session: Session, orders: Mapping[str, str], now: Micros) -> Claim:
    before = session.claim or Claim(status=OldStatus.PENDING.value, digest="", source="redis")
    status = OldStatus.PROCESSED.value if orders else before.status
    return replace(before, status=status, orders={**before.orders, **orders}, taken_at=now)


def _is_complete(session: Session) -> bool:
    made = session.claim.orders if session.claim else {}
    return bool(made) and ("" in made or {item.shop_id for item in session.items} <= made.keys())


def _ordered_there(session: Session, made_at: Micros, now: Micros) -> Session:
    """The old shop made every order: our rows of them announce nothing, and the money that came is what they cost."""
    shown = shown_invoice(session)
    attempts = tuple(replace(a, state=InvoiceState.PAID) if a is shown else a for a in session.attempts)
    orders = orders_for(
        session.id,
        amount=session.amount,
        currency=session.currency,
        items=session.items,
        discount=session.discount,
        shipping_amount=session.shipping_amount,
        now=made_at,
    )
    looks = tuple(look for look in session.looks if look.reason is Reason.CALLBACK)
    paid = replace(session, orders=orders, paid_at=made_at, attempts=attempts, looks=looks).moved(Status.PAID)
    return after_answer(paid, Evidence(), now)
