"""`tulbur why`: the story of an id for a tired person, its verdict first; and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tulbur.commands.showing import out
from tulbur.core.money import format_tugrik
from tulbur.core.session import MEANINGS, SECOND, Hint, Invoice, Look, Micros, Payment, Session
from tulbur.core.telling import Verdict, local, told, verdict
from tulbur.payments.explaining import Story
from tulbur.ports import Unmatched


def as_json(story: Story) -> Mapping[str, Any]:
    """All of a story; times in UTC, amounts in tugrik. No cart, no person, no raw answer."""
    judged = _verdict(story)
    return {
        "id": story.id,
        "kind": story.kind,
        "verdict": judged.text,
        "do": list(judged.do),
        "session": _session(story.session) if story.session else None,
        "unmatched": _unmatched(story.unmatched) if story.unmatched else None,
        "parked_events": [{"no": one.no, "id": one.event.id, "type": one.event.type} for one in story.parked],
        "history": [_event(story, number) for number in range(len(story.history))],
        "history_cut": story.cut,
    }


def _verdict(story: Story) -> Verdict:
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


# --- for a person ----------------------------------------------------------------------------------------------------


def print_story(story: Story) -> None:
    """The verdict, what to do, the money, and the history; times as in Ulaanbaatar."""
    for line in lines(story):
        out.print(line, markup=False)


def lines(story: Story) -> list[str]:
    judged = _verdict(story)
    head = [judged.text, *(f"  do: {line}" for line in judged.do), ""]
    body = _of_session(story.session) if story.session else _of_unmatched(story.unmatched)
    parked = [f"parked event   {one.no} {one.event.type}: the shop was not told" for one in story.parked]
    history = [f"{local(event.at)}  {source:14} {what}" for event in story.history for source, what in (told(event),)]
    cut = [f"… and more: only the first {len(story.history)} are told"] if story.cut else []
    times = ["", "history, in Ulaanbaatar time (UTC+8)"] if history else []
    return [*head, *body, *parked, *times, *history, *cut]


def _of_session(s: Session) -> list[str]:
    rows = [f"session        {s.id}  {s.status.value}  {format_tugrik(s.amount)} {s.currency}"]
    rows += [f"exception      {name.value}: {MEANINGS[name]}" for name in sorted(s.exceptions)]
    rows += [
        f"invoice {a.number}      {a.id or 'id not known'}  {a.state.value}  number {a.sender_invoice_no}"
        for a in s.attempts
    ]
    for p in s.payments:
        rows.append(f"payment        {p.id}  {format_tugrik(p.amount)} {p.currency} {p.status}{_split(p)}")
        rows += [
            f"  refund       {format_tugrik(r.amount)}  {r.state.value} by {r.by or '-'}, way {r.way.value}"
            + (f", reference {r.reference}" if r.reference else "")
            for r in p.refunds
        ]
    rows += [f"order          {o.id}  shop {o.shop_id or '-'}  {format_tugrik(o.total)}" for o in s.orders]
    rows += list(_hints(s.hints))
    rows += list(_looks(s.looks))
    if s.claim is not None:
        orders = f"; its orders: {', '.join(s.claim.orders.values())}" if s.claim.orders else ""
        taken = f"; taken over {local(s.claim.taken_at)}" if s.claim.taken_at else ""
        rows.append(f"old shop       said {s.claim.status}, read from its {s.claim.source}{orders}{taken}")
    return rows


def _split(p: Payment) -> str:
    parts = ((format_tugrik(getattr(p, part)), part) for part in ("ordered", "refund_due", "refunded", "held"))
    told_parts = ", ".join(f"{amount} {part.replace('_', ' ')}" for amount, part in parts if amount != "0.00")
    return f": {told_parts}" if told_parts else ""


def _hints(hints: Iterable[Hint]) -> Iterable[str]:
    return (f"named          {h.payment_id or 'no payment id'}  at {local(h.seen_at)}: {h.state.value}" for h in hints)


def _looks(looks: Iterable[Look]) -> Iterable[str]:
    return (f"next look      {local(look.at)}, because of {look.reason.value}" for look in looks)


def _of_unmatched(u: Unmatched | None) -> list[str]:
    if u is None:
        return []
    rows = [f"payment        {u.payment_id}  first heard of {local(u.seen_at)}, looked at {u.tries} times"]
    if u.hinted_session_id:
        rows.append(f"named for      session {u.hinted_session_id}, which is not stored here")
    if u.invoice_id:
        rows.append(f"invoice        {u.invoice_id}")
    return rows
