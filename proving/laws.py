"""The laws that hold for every session and for every step, as assertions; each says which one it judges by."""

from collections import Counter
from dataclasses import replace

from tulbur.core import steps
from tulbur.core.codec import decode, encode
from tulbur.core.custody import Custody, is_adoptable
from tulbur.core.money import parse_tugrik
from tulbur.core.refunding import refunds_awaited
from tulbur.core.schedule import waiting
from tulbur.core.session import (
    MOVES,
    PUBLIC_EVENTS,
    Event,
    ExceptionName,
    HintState,
    InvoiceState,
    Payment,
    Reason,
    Session,
    Status,
    rank,
)

PARTS = ("ordered", "refund_due", "refunded", "held")

STICKY = frozenset(
    {
        ExceptionName.LATE,
        ExceptionName.AFTER_CANCEL,
        ExceptionName.WRONG_CURRENCY,
        ExceptionName.REFUNDED,
        ExceptionName.CONTESTED,
    }
)
"""Exceptions that tell what happened; the others tell how things are."""

INVOICE_MOVES = {
    InvoiceState.CREATING: {InvoiceState.OPEN, InvoiceState.UNKNOWN, InvoiceState.CANCELLED, InvoiceState.PAID},
    InvoiceState.UNKNOWN: {InvoiceState.OPEN, InvoiceState.PAID},
    InvoiceState.OPEN: {InvoiceState.PAID, InvoiceState.CANCELLED},
    InvoiceState.CANCELLED: {InvoiceState.PAID},
    InvoiceState.PAID: set(),
}


def money(session: Session) -> dict[str, object]:
    """What a payer and a shop would call the outcome: status, orders, and the sum of every part per currency."""
    sums: Counter[tuple[str, str]] = Counter()
    for p in session.payments:
        for part in PARTS:
            sums[p.currency, part] += getattr(p, part)
    return {
        "status": session.status,
        "orders": [(order.id, order.total) for order in session.orders],
        "sums": +sums,
        "payments": {p.id: (p.status, p.amount, p.currency) for p in session.payments},
    }


def public_news(session: Session) -> list[str]:
    return [event.type for event in session.news if event.type in PUBLIC_EVENTS]


def check_session(session: Session) -> None:
    """What is true of every session at rest."""
    check_facts(session)
    stored = decode(encode(session), session.version)
    assert stored == replace(session, news=()), "a stored session reads back as it was"


def check_facts(session: Session) -> None:
    """The same for one that was read from a store just now."""
    _check_money(session)
    _check_orders(session)
    _check_looks(session)
    _check_invoices(session)


def _check_money(session: Session) -> None:
    ours = {attempt.id for attempt in session.asked_about}
    for p in session.payments:
        parts = [getattr(p, part) for part in PARTS]
        assert min(parts) >= 0
        assert sum(parts) == (p.amount if p.received else 0), "law 9: every tugrik is accounted for"
        assert p.assigned_by or p.invoice_id in ours, "law 3: only our own invoices, or a person's word"
        if p.ordered:
            assert (p.status, p.currency) == ("PAID", session.currency), "law 3: same currency, PAID"
        if session.status is Status.PENDING:
            assert not p.refund_due, "what may still become an order is held, not due back"
        elif session.custody is not Custody.HANDED_OVER and not _waits_for_a_person(session, p):
            assert not p.held, "nothing waits without an end"
        assert sum(refund.is_open for refund in p.refunds) <= 1, "one refund at a time"
    assert len({p.id for p in session.payments}) == len(session.payments), "law 1: a payment counts once"
    assert session.sum("ordered") <= session.amount
    assert session.sum("received") == sum(session.sum(part) for part in PARTS)


def _waits_for_a_person(session: Session, p: Payment) -> bool:
    """Late money, where a shop wants to look at it, and money for a cart that is gone."""
    return session.status is not Status.PAID and (
        session.status is Status.CANCELLED or steps.is_late(session, p) or session.blanked_at is not None
    )


def _check_orders(session: Session) -> None:
    assert (session.status is Status.PAID) == bool(session.orders), "law 6: PAID and its orders are one"
    assert (session.status is Status.PAID) == (session.paid_at is not None)
    if session.orders:
        assert sum(order.total for order in session.orders) == session.amount
        assert ExceptionName.UNDERPAID not in session.exceptions
    assert len({order.shop_id for order in session.orders}) == len(session.orders), "law 1: one order per shop"
    assert len({order.id for order in session.orders}) == len(session.orders)


def _check_looks(session: Session) -> None:
    if session.custody is Custody.FOLLOWED:
        named = is_adoptable(session.custody, session.claim) and bool(waiting(session.hints))
        assert [look.reason for look in session.looks] == [Reason.CALLBACK] * named, (
            "what is not ours yet is asked about only where a callback may make it ours"
        )
        return
    reasons = Counter(look.reason for look in session.looks)
    allowed = {Reason.CALLBACK, Reason.DEADLINE} | ({Reason.SWEEP} if session.claim else set())
    if refunds_awaited(session):
        allowed.add(Reason.OPERATOR)
        assert reasons[Reason.OPERATOR], "law 2: a refund is looked after"
    assert reasons.keys() <= allowed
    assert max(reasons.values(), default=0) <= 1, "law 10: the reasons are a small set"
    ends = session.status is Status.PENDING and session.custody is Custody.OURS
    assert bool(reasons[Reason.DEADLINE]) == ends, "law 2: pending ends at a deadline, where it is ours to end"
    assert not (session.custody is Custody.HANDED_OVER and reasons[Reason.SWEEP]), "only what a callback names"
    waits = any(hint.state is HintState.WAITING for hint in session.hints)
    assert bool(reasons[Reason.CALLBACK]) == waits, "law 2: a hint is looked after; law 12: nothing else is"
    assert session.next_check_at == min((look.at for look in session.looks), default=None)
    assert len({hint.payment_id for hint in session.hints}) == len(session.hints)


def _check_invoices(session: Session) -> None:
    assert [attempt.number for attempt in session.attempts] == list(range(1, len(session.attempts) + 1))
    shown = session.payable
    if shown is not None:
        assert session.status is Status.PENDING
        assert shown.qr_text
        assert shown not in steps.superseded(session), "what is shown is not cancelled"
    paid_on = {p.invoice_id for p in session.payments if steps.is_paid(p, session.currency)}
    for attempt in session.attempts:
        if session.status is Status.PAID:
            assert (attempt.state is InvoiceState.PAID) >= (attempt.id in paid_on), "a paid invoice is not cancelled"


def check_step(before: Session, after: Session) -> None:
    """What is true of every step from one session to the next."""
    if after is before:
        return
    told = fresh(before, after)
    assert after.news[: len(before.news)] == before.news
    assert told, "a changed session tells of it"
    assert after.event_count == before.event_count + len(told)
    assert len({event.id for event in after.news}) == len(after.news)
    assert (after.id, after.amount, after.currency) == (before.id, before.amount, before.currency)
    if after.blanked_at == before.blanked_at:
        assert after.items == before.items
    else:
        _check_blanked(before, after)
    assert after.version == before.version
    _check_forward(before, after)
    _check_attempts(before, after)


def _check_blanked(before: Session, after: Session) -> None:
    """Retention takes personal data, and nothing that keeps a payment from counting twice."""
    assert before.blanked_at is None, "blanked once, and for ever"
    data = (after.items, after.shipping, after.metadata, after.description)
    assert not any(data), "nobody's data remains"
    assert money(after) == money(before), "law 1: blanking touches no money"
    assert keys(after) == keys(before), "law 1: the rows that hold uniqueness are blanked, never deleted"


def keys(session: Session) -> dict[str, object]:
    """Everything by which a repeat, a second payment or a refund is known."""
    return {
        "idempotency": (session.scope, session.idempotency_key, session.body_digest),
        "attempts": [(a.id, a.sender_invoice_no) for a in session.attempts],
        "payments": [(p.id, p.invoice_id, p.paid_at, p.assigned_by) for p in session.payments],
        "refunds": [(r.amount, r.way, r.state, r.reference, r.keys) for p in session.payments for r in p.refunds],
        "hints": [(hint.payment_id, hint.state) for hint in session.hints],
        "exceptions": session.exceptions,
    }


def fresh(before: Session, after: Session) -> tuple[Event, ...]:
    return after.news[len(before.news) :]


def _check_forward(before: Session, after: Session) -> None:
    assert after.status is before.status or (before.status, after.status) in MOVES, "law 7: forward only"
    assert [p.id for p in after.payments[: len(before.payments)]] == [p.id for p in before.payments]
    for was, now in zip(before.payments, after.payments, strict=False):
        assert rank(now.status) >= rank(was.status), "law 7: a payment's status only advances"
        if was.status in ("PAID", "REFUNDED"):
            assert (now.amount, now.currency) == (was.amount, was.currency)
        if now.status == "PAID" == was.status:
            assert now.ordered + now.refunded >= was.ordered + was.refunded, "what is ordered stays ordered"
            assert now.refunded >= was.refunded, "what went back does not come again"
    if before.orders:
        assert after.orders == before.orders, "law 1: orders never change"
        assert after.paid_at == before.paid_at
    if before.status is not Status.PAID and after.status is Status.PAID and before.custody is Custody.OURS:
        covering = [p for p in after.payments if p.status == "PAID" and p.currency == after.currency]
        short = [event.data["shortfall"] for event in fresh(before, after) if event.type == "session.reviewed"]
        missing = parse_tugrik(short[0]) if short else 0
        assert after.sum("ordered") == after.amount - missing, "law 9: what was ordered was paid"
        assert sum(p.amount for p in covering) >= after.amount - missing, "law 3: proven payments, or a person's word"
    assert before.exceptions & STICKY <= after.exceptions
    told = [event.data["exception"] for event in after.news[len(before.news) :] if event.type == "session.exception"]
    assert sorted(told) == sorted(after.exceptions - before.exceptions), "law 2: every exception is told, once"


def _check_attempts(before: Session, after: Session) -> None:
    assert len(after.attempts) >= len(before.attempts)
    for was, now in zip(before.attempts, after.attempts, strict=False):
        assert (now.number, now.sender_invoice_no) == (was.number, was.sender_invoice_no)
        assert was.id in (None, now.id), "an invoice keeps its id"
        assert now.state is was.state or now.state in INVOICE_MOVES[was.state]
    hints = {hint.payment_id for hint in before.hints}
    assert hints <= {hint.payment_id for hint in after.hints}, "law 3: a hint is kept"
