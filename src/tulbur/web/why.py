"""The story of an id as JSON, for commands and pages."""

from __future__ import annotations

from tulbur.core.money import format_tugrik
from tulbur.core.session import MEANINGS, Event, Invoice, Payment, Session
from tulbur.core.telling import Verdict, local, told, verdict
from tulbur.payments.explaining import Story
from tulbur.ports import EventDelivery, Unmatched
from tulbur.web.fields import tugrik
from tulbur.web.shapes import as_time
from tulbur.web.why_models import (
    ToldAttempt,
    ToldClaim,
    ToldDelivery,
    ToldEvent,
    ToldHint,
    ToldLook,
    ToldOrder,
    ToldPayment,
    ToldRefund,
    ToldSession,
    ToldUnmatched,
    Why,
)


def story_shape(story: Story) -> Why:
    """All of a story; times in UTC, amounts in tugrik. No cart, no person, no raw answer."""
    found = judged(story)
    return Why(
        id=story.id,
        kind=story.kind,
        verdict=found.text,
        do=found.do,
        session=_session(story.session) if story.session else None,
        unmatched=_unmatched(story.unmatched) if story.unmatched else None,
        deliveries=tuple(_delivery(one) for one in story.deliveries),
        history=tuple(_event(event) for event in story.history),
        history_cut=story.cut,
    )


def judged(story: Story) -> Verdict:
    """Where it stands, and what a person has to do."""
    if story.session is not None:
        return verdict(story.session)
    lone = story.unmatched
    if lone is None:
        raise AssertionError("a story is of a session or of a payment")
    if lone.closed_at is not None:
        return Verdict(f"a payment without a session, closed by a person at {local(lone.closed_at)}")
    what = f"{format_tugrik(lone.amount)} {lone.currency} {lone.status}" if lone.amount is not None else "only its id"
    looked = f"QPay is asked about it next at {local(lone.due_at)}" if lone.due_at else "nobody looks any more"
    return Verdict(
        f"waits for a person: a payment without a session, {what} is known; {looked}",
        (
            f"tulbur payments assign {lone.payment_id} SESSION",
            f"tulbur payments close {lone.payment_id} --reference R  (settled elsewhere)",
        ),
    )


def _session(s: Session) -> ToldSession:
    return ToldSession(
        id=s.id,
        status=s.status,
        exceptions={name: MEANINGS[name] for name in sorted(s.exceptions)},
        amount=tugrik(s.amount),
        currency=s.currency,
        created_at=as_time(s.created_at),
        expires_at=as_time(s.expires_at),
        paid_at=as_time(s.paid_at),
        cancelled_at=as_time(s.cancelled_at),
        last_check_at=as_time(s.last_check_at),
        blanked_at=as_time(s.blanked_at),
        custody=s.custody,
        old_shop=_claim(s),
        attempts=tuple(_attempt(attempt) for attempt in s.attempts),
        payments=tuple(_payment(p) for p in s.payments),
        orders=tuple(
            ToldOrder(id=order.id, shop_id=order.shop_id, total=tugrik(order.total), items=len(order.items))
            for order in s.orders
        ),
        hints=tuple(ToldHint(payment_id=h.payment_id, seen_at=as_time(h.seen_at), state=h.state) for h in s.hints),
        looks=tuple(ToldLook(reason=look.reason, at=as_time(look.at), tries=look.tries) for look in s.looks),
    )


def _claim(s: Session) -> ToldClaim | None:
    if s.claim is None:
        return None
    return ToldClaim(
        status=s.claim.status,
        source=s.claim.source,
        orders=dict(s.claim.orders),
        review=s.claim.review,
        taken_over_at=as_time(s.claim.taken_at),
    )


def _attempt(a: Invoice) -> ToldAttempt:
    return ToldAttempt(
        number=a.number,
        invoice_id=a.id,
        sender_invoice_no=a.sender_invoice_no,
        state=a.state,
        created_at=as_time(a.created_at),
    )


def _payment(p: Payment) -> ToldPayment:
    return ToldPayment(
        id=p.id,
        invoice_id=p.invoice_id,
        status=p.status,
        currency=p.currency,
        method=p.method,
        seen_at=as_time(p.seen_at),
        paid_at=as_time(p.paid_at),
        amount=tugrik(p.amount),
        ordered=tugrik(p.ordered),
        refund_due=tugrik(p.refund_due),
        refunded=tugrik(p.refunded),
        held=tugrik(p.held),
        assigned_by=p.assigned_by,
        refunds=tuple(
            ToldRefund(
                amount=tugrik(r.amount), way=r.way, state=r.state, by=r.by, reference=r.reference, at=as_time(r.at)
            )
            for r in p.refunds
        ),
    )


def _unmatched(u: Unmatched) -> ToldUnmatched:
    return ToldUnmatched(
        payment_id=u.payment_id,
        hinted_session_id=u.hinted_session_id,
        invoice_id=u.invoice_id,
        amount=None if u.amount is None else tugrik(u.amount),
        currency=u.currency,
        status=u.status,
        seen_at=as_time(u.seen_at),
        paid_at=as_time(u.paid_at),
        next_look_at=as_time(u.due_at),
        looks=u.tries,
        closed_at=as_time(u.closed_at),
    )


def _delivery(one: EventDelivery) -> ToldDelivery:
    return ToldDelivery(
        no=one.no,
        id=one.event.id,
        type=one.event.type,
        state=one.state,
        since=as_time(one.event.at),
        attempts_failed=one.attempts,
        retry_at=as_time(one.retry_at),
        delivered_at=as_time(one.delivered_at),
    )


def _event(event: Event) -> ToldEvent:
    source, what = told(event)
    return ToldEvent(at=as_time(event.at), source=source, what=what, type=event.type, id=event.id)
