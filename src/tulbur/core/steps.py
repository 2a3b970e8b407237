"""The steps of a session that no money decides: opened, invoiced, hinted, asked, expired, cancelled.

Each is a pure function of the stored session and what happened; it returns the next session, its events in `news`, or
the same object when there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tulbur.core.custody import Custody, is_adoptable
from tulbur.core.disagreeing import named
from tulbur.core.money import format_tugrik
from tulbur.core.rules import Rules
from tulbur.core.schedule import (
    DAY,
    MOST_HINTS,
    counted,
    first_rung,
    may_ask,
    postponed,
    renewal,
    waiting,
)
from tulbur.core.session import (
    SECOND,
    ExceptionName,
    Hint,
    HintState,
    Invoice,
    InvoiceState,
    Link,
    Look,
    Micros,
    Payment,
    Reason,
    Session,
    Status,
)
from tulbur.core.values import replace

GIVE_UP_SECONDS: Final = 7 * 86_400
"""Longest wait for an answer of QPay's, past the deadline or since a callback; no outage of QPay's was ever as long."""

ACCEPT: Final = Rules()
"""Late money makes the order, as it does unless a shop says otherwise."""

MOST_ATTEMPTS: Final = 10
"""Invoices tried for one session; each needs a request of the shop, so a person has looked long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceMade:
    """What QPay answered when it made an invoice; only the id where that is all that is known."""

    id: str
    qr_text: str = ""
    qr_image: str = ""
    short_url: str = ""
    links: tuple[Link, ...] = ()


def opened(session: Session, *, sender_invoice_no: str, deadline: Micros) -> Session:
    """The first state of a checkout: the intent to ask QPay for invoice 1, and a look at its deadline."""
    now = session.created_at
    first = Invoice(number=1, sender_invoice_no=sender_invoice_no, created_at=now, deadline=deadline)
    at_deadline = Look(Reason.DEADLINE, session.expires_at)
    ready = replace(session, attempts=(first,), looks=(at_deadline,))
    return ready.with_news("session.opened", now, amount=format_tugrik(session.amount), currency=session.currency)


def attempted(session: Session, *, sender_invoice_no: str, now: Micros, deadline: Micros) -> Session:
    """The intent to ask for one more invoice; attempts still creating are given up as unknown."""
    number = len(session.attempts) + 1
    attempt = Invoice(number=number, sender_invoice_no=sender_invoice_no, created_at=now, deadline=deadline)
    given_up = tuple(
        replace(a, state=InvoiceState.UNKNOWN) if a.state is InvoiceState.CREATING else a for a in session.attempts
    )
    return replace(session, attempts=(*given_up, attempt)).with_news("invoice.attempted", now, attempt=number)


def with_invoice(session: Session, number: int, made: InvoiceMade, now: Micros) -> Session:
    """QPay made the invoice of attempt `number`; it may be known by its id alone already."""
    attempt = session.attempts[number - 1]
    if attempt.id not in (None, made.id) or (attempt.id and (attempt.qr_text or not made.qr_text)):
        return session
    unseen = attempt.state in (InvoiceState.CREATING, InvoiceState.UNKNOWN)
    found = replace(
        attempt,
        id=made.id,
        state=InvoiceState.OPEN if unseen else attempt.state,
        qr_text=made.qr_text,
        qr_image=made.qr_image,
        short_url=made.short_url,
        links=made.links,
    )
    after = _with_attempt(session, found)
    return after.with_news("session.invoiced", now, invoice_id=made.id, attempt=number)


def invoice_unknown(session: Session, number: int, now: Micros) -> Session:
    """The answer to attempt `number` was lost: QPay may have made an invoice, nobody saw its QR."""
    attempt = session.attempts[number - 1]
    if attempt.state is not InvoiceState.CREATING:
        return session
    after = _with_attempt(session, replace(attempt, state=InvoiceState.UNKNOWN))
    return after.with_news("invoice.unknown", now, attempt=number)


def invoice_refused(session: Session, number: int, key: str, now: Micros) -> Session:
    """QPay refused to make the invoice of attempt `number`; there is nothing to pay."""
    attempt = session.attempts[number - 1]
    if attempt.state is not InvoiceState.CREATING:
        return session
    after = _with_attempt(session, replace(attempt, state=InvoiceState.CANCELLED))
    return after.with_news("invoice.refused", now, attempt=number, key=key)


def invoice_cancelled(session: Session, number: int, now: Micros) -> Session:
    """QPay cancelled the invoice of attempt `number`, which another attempt replaced."""
    attempt = session.attempts[number - 1]
    if attempt.state is not InvoiceState.OPEN:
        return session
    after = _with_attempt(session, replace(attempt, state=InvoiceState.CANCELLED, qr_image=""))
    return after.with_news("invoice.cancelled", now, attempt=number)


def superseded(session: Session) -> tuple[Invoice, ...]:
    """Open attempts whose QR must not be paid any more, because another attempt is shown or has been paid.

    An expired session keeps the invoice open that was shown last: late money counts.
    """
    still_open = [a for a in session.attempts if a.state is InvoiceState.OPEN and a.id]
    if session.status in (Status.PENDING, Status.EXPIRED):
        shown = [a for a in still_open if a.qr_text] or still_open
        return tuple(a for a in still_open if a is not shown[-1])
    return tuple(still_open)


def hinted(session: Session, payment_id: str, now: Micros) -> Session:
    """A callback named `payment_id` ("" when none): keep it and plan the first look of the ladder.

    A session that is followed keeps it for later: nothing is asked before it is taken over, unless that makes it ours.
    """
    if knows(session, payment_id):
        return session
    nothing_new = (HintState.WAITING, HintState.FOREIGN)
    if any(hint.payment_id == payment_id and hint.state in nothing_new for hint in session.hints):
        return session
    kept = tuple(hint for hint in session.hints if hint.payment_id != payment_id)
    looks = (*(look for look in session.looks if look.reason is not Reason.CALLBACK), first_rung(now))
    if session.custody is Custody.FOLLOWED and not is_adoptable(session.custody, session.claim):
        looks = ()
    after = replace(session, hints=(*kept, Hint(payment_id, now)), looks=looks)
    return after.with_news("callback.received", now, payment_id=payment_id)


def unseen_money(session: Session, invoice_id: str, now: Micros) -> Session:
    """QPay would not cancel a superseded invoice because it is paid: unless that money is known, look for it, once."""
    if any(hint.payment_id == invoice_id for hint in session.hints):
        return session
    if any(p.received and p.invoice_id == invoice_id for p in session.payments):
        return session
    return hinted(session, invoice_id, now)


def hints_full(session: Session, payment_id: str) -> bool:
    return len(session.hints) >= MOST_HINTS and all(h.payment_id != payment_id for h in session.hints)


def knows(session: Session, payment_id: str) -> bool:
    """Whether a callback with this payment id can tell nothing new."""
    if not payment_id:
        return session.status is Status.PAID
    known = session.payment(payment_id)
    return known is not None and known.status in ("PAID", "REFUNDED")


def asked(session: Session, reason: Reason, now: Micros, *, new_hint: bool = False, by: str = "") -> Session:
    """Claim the right to ask QPay; the same object when the question is refused.

    Of a session that is followed nothing is asked, unless a callback may make it ours. Looks that are due move behind
    the question, so that another asks should this one die. `by` is the person who wants to know, if it is one.
    """
    if session.custody is Custody.FOLLOWED and not _called_back(session):
        return session
    if not may_ask(session, reason, now, new_hint=new_hint):
        return session
    after = replace(
        session,
        asks=counted(session.asks, reason, now),
        looks=tuple(postponed(look, now) for look in session.looks),
    )
    return after.with_news("check.asked", now, reason=reason.value, **_named(by))


def _named(by: str) -> dict[str, str]:
    return {"by": by} if by else {}


def _called_back(session: Session) -> bool:
    return is_adoptable(session.custody, session.claim) and bool(waiting(session.hints))


def refused(session: Session, now: Micros) -> Session:
    """A look that is due and may not be asked yet waits for the question under way, or for tomorrow's budget."""
    until = session.asks.busy_until if session.asks.busy_until > now else renewal(now)
    looks = tuple(
        replace(look, at=until) if look.at <= now and not may_ask(session, look.reason, now) else look
        for look in session.looks
    )
    if looks == session.looks:
        return session
    return replace(session, looks=looks).with_news("check.postponed", now)


def unanswered(session: Session, reason: Reason, now: Micros) -> Session:
    """QPay said nothing to the question under way: that costs nothing of the day's budget; its looks are put off."""
    asks = session.asks
    counts = dict(asks.counts)
    if asks.day == now // DAY and counts.get(reason, 0) > 0:
        counts[reason] -= 1
    after = replace(session, asks=replace(asks, counts=counts, busy_until=0))
    return after.with_news("check.unanswered", now, reason=reason.value)


def given_up(session: Session, now: Micros, rules: Rules = ACCEPT) -> Session:
    """After a week without a full answer a person has to look: what is awaited becomes `unconfirmed`.

    The session expires, so that money which shows after all still makes the order.
    """
    over = _awaits_an_answer(session) and is_overdue(session, now)
    hints = tuple(
        replace(hint, state=HintState.UNCONFIRMED)
        if hint.state is HintState.WAITING and now >= hint.seen_at + GIVE_UP_SECONDS * SECOND
        else hint
        for hint in session.hints
    )
    if over:
        known = {hint.payment_id for hint in hints}
        silent = (str(a.id) for a in session.asked_about if a.id not in known)
        hints += tuple(Hint(invoice_id, now, HintState.UNCONFIRMED) for invoice_id in silent)
    if hints == session.hints and not over:
        return session
    ladder = any(hint.state is HintState.WAITING for hint in hints)
    ended = (set() if ladder else {Reason.CALLBACK}) | ({Reason.SWEEP} if over else set())
    looks = tuple(look for look in session.looks if look.reason not in ended)
    after = expired(replace(session, hints=hints, looks=looks), now, rules, unanswered=True)
    unconfirmed = any(hint.state is HintState.UNCONFIRMED and hint.payment_id for hint in hints)
    names = after.exceptions | {ExceptionName.UNCONFIRMED} if unconfirmed else after.exceptions
    told = with_exceptions(after, names, now)
    return told if told.news else told.with_news("check.given_up", now)


def is_overdue(session: Session, now: Micros) -> bool:
    """Whether nothing is waited for any more: a week has passed since its deadline, or since it was taken over."""
    return now >= _awaited_since(session) + GIVE_UP_SECONDS * SECOND


def _awaits_an_answer(session: Session) -> bool:
    swept = any(look.reason is Reason.SWEEP for look in session.looks)
    return session.custody is Custody.OURS and (session.status is Status.PENDING or swept)


def _awaited_since(session: Session) -> Micros:
    taken_at = session.claim.taken_at if session.claim else None
    return max(session.expires_at, taken_at or 0)


def expired(session: Session, now: Micros, rules: Rules = ACCEPT, *, unanswered: bool = False) -> Session:
    """The payer's deadline passed and QPay, asked once more, showed no full payment."""
    if session.status is not Status.PENDING or now < session.expires_at or session.custody is not Custody.OURS:
        return session
    after = _closed(session, now, rules).moved(Status.EXPIRED)
    told = after.with_news("session.expired", now, **({"unanswered": True} if unanswered else {}))
    return with_exceptions(told, named(told), now)


def cancelled(session: Session, now: Micros, rules: Rules = ACCEPT, *, by: str = "") -> Session:
    """The shop or the payer gave up, and every invoice with an id is cancelled at QPay; `by` says who, where known."""
    if session.status is not Status.PENDING or session.custody is not Custody.OURS:
        return session
    attempts = tuple(
        replace(a, state=InvoiceState.CANCELLED) if a.state is InvoiceState.OPEN else a for a in session.attempts
    )
    after = replace(_closed(session, now, rules), attempts=attempts, cancelled_at=now).moved(Status.CANCELLED)
    told = after.with_news("session.cancelled", now, **_named(by))
    # Money of a look that was answered in part has had no name so far, and nobody may look again.
    return with_exceptions(told, named(told), now)


def is_late(session: Session, payment: Payment) -> bool:
    """Whether it was paid after the deadline: by QPay's own date, else by when it was first seen."""
    return (payment.paid_at or payment.seen_at) > session.expires_at


def _closed(session: Session, now: Micros, rules: Rules) -> Session:
    """No look at a deadline any more, no picture to show; money that was held is due back, or waits for a person."""
    due = tuple(
        replace(p, refund_due=p.refund_due + p.held, held=0)
        if p.held and not (rules.review_late and is_late(session, p))
        else p
        for p in session.payments
    )
    after = replace(
        session,
        payments=due,
        looks=tuple(look for look in session.looks if look.reason is not Reason.DEADLINE),
        attempts=tuple(replace(a, qr_image="") for a in session.attempts),
    )
    return with_refunds_due(session, after, now)


def with_refunds_due(before: Session, after: Session, now: Micros) -> Session:
    """Append one event for each payment of which more is due back than before."""
    was = {p.id: p.refund_due for p in before.payments}
    for p in after.payments:
        if p.refund_due > was.get(p.id, 0):
            after = after.with_news(
                "refund.due", now, payment_id=p.id, amount=format_tugrik(p.refund_due), currency=p.currency
            )
    return after


def with_exceptions(session: Session, names: frozenset[ExceptionName], now: Micros) -> Session:
    """Set the exceptions and append one event for each new one."""
    after = replace(session, exceptions=names) if names != session.exceptions else session
    for name in sorted(names - session.exceptions):
        after = after.with_news("session.exception", now, exception=name.value)
    return after


def _with_attempt(session: Session, attempt: Invoice) -> Session:
    attempts = tuple(attempt if a.number == attempt.number else a for a in session.attempts)
    return replace(session, attempts=attempts)


def without_pictures(attempts: tuple[Invoice, ...], paid_ids: Callable[[str], bool]) -> tuple[Invoice, ...]:
    """The attempts of a paid session: nobody will scan them, so image and links need no room any more."""
    return tuple(
        replace(
            a,
            qr_image="",
            links=(),
            state=InvoiceState.PAID if a.id and paid_ids(a.id) else a.state,
        )
        for a in attempts
    )


def is_paid(payment: Payment, currency: str) -> bool:
    """Whether this payment counts towards the amount."""
    return payment.status == "PAID" and payment.currency == currency
