"""What a named person decides about money: make the orders, give it back, or whose it is. Each decision is an event."""

from __future__ import annotations

from tulbur.core.custody import Custody
from tulbur.core.disagreeing import named
from tulbur.core.money import Mongo, format_tugrik
from tulbur.core.refunding import MAY_HAVE_TO_PAY, STILL_PAYABLE, decided, leaving_orders
from tulbur.core.rules import Rules
from tulbur.core.session import Micros, Payment, Session, Status
from tulbur.core.settling import SeenPayment, ordered, with_splits
from tulbur.core.steps import is_paid, with_exceptions, with_refunds_due, without_pictures
from tulbur.core.values import replace
from tulbur.errors import Conflict


def accepted(session: Session, *, by: str, note: str, now: Micros) -> Session:
    """The orders are made of the money there is; what is missing of the amount is told by the event.

    Raises:
        Conflict: it is paid, it is not ours, its cart is gone, or there is no money of its currency.
    """
    counting = _counting(session)
    if session.status is Status.PAID:
        raise Conflict("the session is paid and has its orders")
    if session.blanked_at is not None:
        raise Conflict("its cart was blanked long ago; give the money back")
    if not counting:
        raise Conflict("no payment of this session counts: there is nothing to make orders of")
    missing = session.amount
    parts: dict[str, Mongo] = {}
    for p in counting:
        parts[p.id] = min(p.counts, missing)
        missing -= parts[p.id]
    payments = tuple(_with_part(p, parts.get(p.id, 0)) for p in session.payments)
    reviewed = _reviewed(session, "accept", by, note, now, shortfall=format_tugrik(missing))
    after = ordered(replace(reviewed, payments=payments), counting, now)
    # Those whose money went back by hand, too: QPay cancels no invoice that was paid.
    paid_invoices = {p.invoice_id for p in session.payments if is_paid(p, session.currency)}
    after = replace(after, attempts=without_pictures(after.attempts, paid_invoices.__contains__))
    return with_refunds_due(session, with_exceptions(after, named(after), now), now)


def declined(session: Session, *, by: str, note: str, now: Micros) -> Session:
    """What is held or due goes back; it makes no orders any more.

    Raises:
        Conflict: the session is still payable, or there is no money that waits.
    """
    if session.custody is not Custody.OURS:
        raise Conflict("the session is in the hands of the old shop")
    if session.status is Status.PENDING:
        raise Conflict(STILL_PAYABLE)
    waiting = tuple(p for p in session.payments if p.refund is None and (p.held or p.refund_due))
    if not waiting and any(p.held for p in session.payments):
        raise Conflict("a part of this money is being given back; close that refund first")
    if not waiting:
        raise Conflict("no money of this session waits for a decision")
    if any(leaving_orders(p) for p in session.payments):
        raise Conflict(f"{MAY_HAVE_TO_PAY}; wait for what becomes of that refund")
    after = decided(_reviewed(session, "refund", by, note, now), waiting, by=by, note=note, now=now)
    return with_refunds_due(session, with_exceptions(after, named(after), now), now)


def assigned(session: Session, seen: SeenPayment, *, by: str, note: str, now: Micros, rules: Rules) -> Session:
    """A payment that no session had is this one's: a person says so. It counts like any other.

    Raises:
        Conflict: the session is not ours, or has this payment.
    """
    if session.custody is not Custody.OURS:
        raise Conflict("the session is in the hands of the old shop")
    if session.payment(seen.id) is not None:
        raise Conflict("the session has this payment already")
    payment = Payment(
        id=seen.id,
        invoice_id=seen.invoice_id,
        amount=seen.amount,
        currency=seen.currency,
        status=seen.status,
        method=seen.method,
        wallet=seen.wallet,
        seen_at=now,
        paid_at=seen.paid_at,
        raw=seen.raw if session.blanked_at is None else "",
        assigned_by=by,
    )
    told = session.with_news(
        "payment.assigned",
        now,
        payment_id=seen.id,
        amount=format_tugrik(seen.amount),
        currency=seen.currency,
        by=by,
        note=note,
    )
    after = with_splits(session, replace(told, payments=(*session.payments, payment)), now, rules)
    return with_exceptions(after, named(after), now)


def _counting(session: Session) -> list[Payment]:
    if session.custody is not Custody.OURS:
        raise Conflict("the session is in the hands of the old shop")
    return [p for p in session.payments if is_paid(p, session.currency) and p.counts]


def _with_part(p: Payment, part: Mongo) -> Payment:
    if not p.received:
        return p
    return replace(p, ordered=part, held=0, refund_due=p.amount - part - p.refunded)


def _reviewed(session: Session, decision: str, by: str, note: str, now: Micros, **more: str) -> Session:
    return session.with_news("session.reviewed", now, decision=decision, by=by, note=note, **more)
