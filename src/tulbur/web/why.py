"""The story of an id as JSON, for commands and pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tulbur.core.money import format_tugrik
from tulbur.core.session import MEANINGS, SECOND, Invoice, Micros, Payment, Session
from tulbur.core.telling import Verdict, local, told, verdict
from tulbur.payments.explaining import Story
from tulbur.ports import Unmatched


def as_json(story: Story) -> Mapping[str, Any]:
    """All of a story; times in UTC, amounts in tugrik. No cart, no person, no raw answer."""
    found = judged(story)
    return {
        "id": story.id,
        "kind": story.kind,
        "verdict": found.text,
        "do": list(found.do),
        "session": _session(story.session) if story.session else None,
        "unmatched": _unmatched(story.unmatched) if story.unmatched else None,
        "parked_events": [{"no": one.no, "id": one.event.id, "type": one.event.type} for one in story.parked],
        "history": [_event(story, number) for number in range(len(story.history))],
        "history_cut": story.cut,
    }


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


def _session(s: Session) -> Mapping[str, Any]:
    return {
        "id": s.id,
        "status": s.status.value,
        "exceptions": {name.value: MEANINGS[name] for name in sorted(s.exceptions)},
        "amount": format_tugrik(s.amount),
        "currency": s.currency,
        "created_at": iso(s.created_at),
        "expires_at": iso(s.expires_at),
        "paid_at": iso(s.paid_at),
        "cancelled_at": iso(s.cancelled_at),
        "last_check_at": iso(s.last_check_at),
        "blanked_at": iso(s.blanked_at),
        "custody": s.custody.value,
        "old_shop": _claim(s),
        "attempts": [_attempt(attempt) for attempt in s.attempts],
        "payments": [_payment(p) for p in s.payments],
        "orders": [
            {"id": order.id, "shop_id": order.shop_id, "total": format_tugrik(order.total), "items": len(order.items)}
            for order in s.orders
        ],
        "hints": [{"payment_id": h.payment_id, "seen_at": iso(h.seen_at), "state": h.state.value} for h in s.hints],
        "looks": [{"reason": look.reason.value, "at": iso(look.at), "tries": look.tries} for look in s.looks],
    }


def _claim(s: Session) -> Mapping[str, Any] | None:
    if s.claim is None:
        return None
    return {
        "status": s.claim.status,
        "source": s.claim.source,
        "orders": dict(s.claim.orders),
        "review": s.claim.review,
        "taken_over_at": iso(s.claim.taken_at),
    }


def _attempt(a: Invoice) -> Mapping[str, Any]:
    return {
        "number": a.number,
        "invoice_id": a.id,
        "sender_invoice_no": a.sender_invoice_no,
        "state": a.state.value,
        "created_at": iso(a.created_at),
    }


def _payment(p: Payment) -> Mapping[str, Any]:
    parts = {part: format_tugrik(getattr(p, part)) for part in ("amount", "ordered", "refund_due", "refunded", "held")}
    refunds = [
        {
            "amount": format_tugrik(r.amount),
            "way": r.way.value,
            "state": r.state.value,
            "by": r.by,
            "reference": r.reference,
            "at": iso(r.at),
        }
        for r in p.refunds
    ]
    return {
        "id": p.id,
        "invoice_id": p.invoice_id,
        "status": p.status,
        "currency": p.currency,
        "method": p.method,
        "seen_at": iso(p.seen_at),
        "paid_at": iso(p.paid_at),
        **parts,
        "assigned_by": p.assigned_by,
        "refunds": refunds,
    }


def _unmatched(u: Unmatched) -> Mapping[str, Any]:
    return {
        "payment_id": u.payment_id,
        "hinted_session_id": u.hinted_session_id,
        "invoice_id": u.invoice_id,
        "amount": None if u.amount is None else format_tugrik(u.amount),
        "currency": u.currency,
        "status": u.status,
        "seen_at": iso(u.seen_at),
        "paid_at": iso(u.paid_at),
        "next_look_at": iso(u.due_at),
        "looks": u.tries,
        "closed_at": iso(u.closed_at),
    }


def _event(story: Story, number: int) -> Mapping[str, Any]:
    event = story.history[number]
    source, what = told(event)
    return {"at": iso(event.at), "source": source, "what": what, "type": event.type, "id": event.id}


def iso(at: Micros | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at / SECOND, UTC).isoformat(timespec="milliseconds")
