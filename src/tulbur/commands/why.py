"""`tulbur why`: the story of an id for a tired person, its verdict first."""

from __future__ import annotations

from collections.abc import Iterable

from tulbur.commands.showing import one_line, out
from tulbur.core.money import format_tugrik
from tulbur.core.session import MEANINGS, Hint, Look, Payment, Session
from tulbur.core.telling import local, told
from tulbur.payments.explaining import Story
from tulbur.ports import EventDelivery, Telling, Unmatched
from tulbur.web.why import judged


def print_story(story: Story) -> None:
    """The verdict, what to do, the money, and the history; times as in Ulaanbaatar."""
    for line in lines(story):
        out.print(line, markup=False)


def lines(story: Story) -> list[str]:
    found = judged(story)
    head = [found.text, *(f"  do: {line}" for line in found.do), ""]
    body = _of_session(story.session) if story.session else _of_unmatched(story.unmatched)
    history = [f"{local(event.at)}  {source:14} {what}" for event in story.history for source, what in (told(event),)]
    cut = [f"… and more: only the first {len(story.history)} are told"] if story.cut else []
    times = ["", "history, in Ulaanbaatar time (UTC+8)"] if history else []
    return [one_line(line) for line in (*head, *body, *_deliveries(story.deliveries), *times, *history, *cut)]


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


def _deliveries(deliveries: Iterable[EventDelivery]) -> Iterable[str]:
    """What the shop was told, and when; nothing of what was not to be sent."""
    return (_delivery(one) for one in deliveries if one.state is not Telling.ENDED)


def _delivery(one: EventDelivery) -> str:
    tries = f"{one.attempts} failed attempts" if one.attempts != 1 else "1 failed attempt"
    what = f"{one.no or '-'} {one.event.type}"
    if one.state is Telling.PARKED:
        return f"parked event   {what}: the shop was not told, {tries}"
    if one.delivered_at is not None:
        return f"told           {what} at {local(one.delivered_at)}" + (f", after {tries}" if one.attempts else "")
    again = f", next not before {local(one.retry_at)}" if one.retry_at else ""
    return f"waiting event  {what}: since {local(one.event.at)}, {tries}{again}"
