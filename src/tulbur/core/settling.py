"""What QPay's answer means for a session: which money is counted, whether orders are made, what is named amiss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tulbur.core.custody import Custody
from tulbur.core.disagreeing import named
from tulbur.core.money import Mongo, format_tugrik
from tulbur.core.orders import orders_for
from tulbur.core.refunding import with_refunds
from tulbur.core.rules import Rules
from tulbur.core.schedule import climbed
from tulbur.core.session import (
    ExceptionName,
    Hint,
    HintState,
    Look,
    Micros,
    Payment,
    Reason,
    Session,
    Status,
    rank,
)
from tulbur.core.steps import (
    ACCEPT,
    InvoiceMade,
    is_late,
    is_paid,
    with_exceptions,
    with_invoice,
    with_refunds_due,
    without_pictures,
)
from tulbur.core.values import replace


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPayment:
    """A payment as QPay reports it; `invoice_id` is "" and `paid_at` None where the answer does not say."""

    id: str
    amount: Mongo
    currency: str
    status: str
    invoice_id: str = ""
    method: str = ""
    wallet: str = ""
    paid_at: Micros | None = None
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceSeen:
    """An invoice as QPay has it; `status` is QPay's own open string, OPEN, CLOSED or CANCELED."""

    id: str
    status: str
    sender_invoice_no: str
    amount: Mongo
    callback_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceAnswer:
    """QPay's answer about one invoice; `complete` is False when a page may be missing or a row unreadable."""

    invoice_id: str
    payments: tuple[SeenPayment, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that one look brought.

    `complete`: every attempt with an id was answered in full; only then is something missing proven missing.
    `looked_up`: payments found by their id, on our invoices. `foreign`: hinted ids on invoices that are not ours.
    `adopted`: invoice ids found for attempts that had none. `taken`: ids another session already holds.
    """

    answers: tuple[InvoiceAnswer, ...] = ()
    looked_up: tuple[SeenPayment, ...] = ()
    foreign: frozenset[str] = frozenset()
    adopted: tuple[tuple[int, str], ...] = ()
    complete: bool = False
    taken: frozenset[str] = frozenset()


def after_answer(session: Session, evidence: Evidence, now: Micros, rules: Rules = ACCEPT) -> Session:
    """Decide by QPay's answer. Nothing in it, missing from it or contradicting it moves anything backwards."""
    if session.custody is Custody.FOLLOWED:
        return session
    adopted = session
    for number, invoice_id in evidence.adopted:
        adopted = with_invoice(adopted, number, InvoiceMade(id=invoice_id), now)
    after = _with_payments(adopted, _advanced(adopted, evidence, now), now)
    after = with_refunds(after, now, answered=evidence.complete)
    after = with_splits(adopted, after, now, rules)
    after = _with_hints(after, evidence, now)
    after = with_exceptions(after, named(after, complete=evidence.complete, contested=bool(evidence.taken)), now)
    if evidence.complete or evidence.looked_up:
        after = replace(after, last_check_at=now)
    if evidence.complete:
        looks = tuple(look for look in after.looks if look.reason is not Reason.SWEEP)
        after = replace(after, asks=replace(after.asks, busy_until=0), looks=looks)
    if after == session:
        return session
    return after if after.news else after.with_news("check.answered", now, complete=evidence.complete)


def still_followed(session: Session, now: Micros) -> Session:
    """QPay answered and showed no invoice that makes this session ours: its hints climb the ladder."""
    if session.custody is not Custody.FOLLOWED:
        return session
    answered = Evidence(complete=True)
    after = _with_hints(session, answered, now)
    after = replace(after, asks=replace(after.asks, busy_until=0))
    after = with_exceptions(after, named(after, complete=True), now)
    if after == session:
        return session
    return after if after.news else after.with_news("check.answered", now, complete=False)


def _advanced(session: Session, evidence: Evidence, now: Micros) -> tuple[Payment, ...]:
    """The session's payments with what was seen merged in: a status only advances, a payment never leaves."""
    ours = {attempt.id for attempt in session.asked_about}
    payments = {p.id: p for p in session.payments}
    assigned = {p.id for p in session.payments if p.assigned_by}
    for found in (*_merged(evidence, ours), *(p for p in evidence.looked_up if p.id in assigned)):
        # What is blanked is not blanked a second time.
        seen = found if session.blanked_at is None else replace(found, raw="")
        if seen.id in evidence.taken:
            continue
        known = payments.get(seen.id)
        if known is None:
            payments[seen.id] = Payment(
                id=seen.id,
                invoice_id=seen.invoice_id,
                amount=seen.amount,
                currency=seen.currency,
                status=seen.status,
                method=seen.method,
                wallet=seen.wallet,
                seen_at=now,
                paid_at=seen.paid_at,
                raw=seen.raw,
            )
        elif rank(seen.status) > rank(known.status):
            payments[seen.id] = _advance(known, seen, now)
        elif rank(seen.status) == rank(known.status) and known.paid_at is None:
            payments[seen.id] = replace(known, paid_at=seen.paid_at)
    return tuple(payments.values())


def _advance(known: Payment, seen: SeenPayment, now: Micros) -> Payment:
    if known.status == "PAID":
        # What was received is received: a refund does not rewrite the amount that was counted.
        return replace(known, status=seen.status, paid_at=known.paid_at or seen.paid_at, raw=seen.raw or known.raw)
    return replace(
        known,
        status=seen.status,
        amount=seen.amount,
        currency=seen.currency,
        # Without a date of QPay's, lateness goes by the first sight of PAID, not of an attempt to pay.
        seen_at=now if seen.status == "PAID" else known.seen_at,
        paid_at=seen.paid_at or known.paid_at,
        raw=seen.raw or known.raw,
    )


def _merged(evidence: Evidence, ours: set[str | None]) -> Iterable[SeenPayment]:
    """One line per payment on our invoices: the most advanced status, with the date where any answer gave it."""
    merged: dict[str, SeenPayment] = {}
    answered = (replace(p, invoice_id=answer.invoice_id) for answer in evidence.answers for p in answer.payments)
    for seen in (*answered, *evidence.looked_up):
        known = merged.get(seen.id)
        if known is None and seen.invoice_id in ours:
            merged[seen.id] = seen
        elif known is not None and (not seen.invoice_id or seen.invoice_id in ours):
            best = seen if rank(seen.status) > rank(known.status) else known
            merged[seen.id] = replace(best, invoice_id=known.invoice_id, paid_at=known.paid_at or seen.paid_at)
    return merged.values()


def _with_payments(session: Session, payments: tuple[Payment, ...], now: Micros) -> Session:
    known = {p.id: p.status for p in session.payments}
    after = replace(session, payments=payments) if payments != session.payments else session
    for p in payments:
        if known.get(p.id) != p.status:
            after = after.with_news(
                "payment.seen",
                now,
                payment_id=p.id,
                invoice_id=p.invoice_id,
                amount=format_tugrik(p.amount),
                currency=p.currency,
                status=p.status,
            )
    return after


def with_splits(before: Session, session: Session, now: Micros, rules: Rules = ACCEPT) -> Session:
    """Split each payment over ordered, refund due, refunded and held; make the orders when the amount is covered."""
    counting = [p for p in session.payments if is_paid(p, session.currency)]
    covered = session.custody is Custody.OURS and _sum(counting) >= session.amount
    waits = covered and session.status is not Status.PAID and _for_a_person(session, counting, rules)
    paid = session.status is Status.PAID or (covered and not waits)
    parts = _split(session, paid=paid, rules=rules)
    after = replace(session, payments=parts) if parts != session.payments else session
    if paid and session.status is not Status.PAID:
        after = ordered(after, counting, now)
    elif waits:
        after = with_exceptions(after, session.exceptions | _lateness(session), now)
    if paid:
        paid_invoices = {p.invoice_id for p in counting}
        after = replace(after, attempts=without_pictures(after.attempts, paid_invoices.__contains__))
    return with_refunds_due(before, after, now)


def resplit(before: Session, session: Session, now: Micros, rules: Rules) -> Session:
    """Of a paid session: money that waits to go back pays for what other money does not pay for any more."""
    if session.status is not Status.PAID:
        return session
    after = with_splits(before, session, now, rules)
    return with_exceptions(after, named(after), now)


def _sum(payments: Iterable[Payment]) -> Mongo:
    return sum(p.counts for p in payments)


def _for_a_person(session: Session, counting: list[Payment], rules: Rules) -> bool:
    """Whether a person has to decide about money that covers the amount: it came late, or its cart is gone."""
    if session.blanked_at is not None:
        return True
    in_time = [p for p in counting if not is_late(session, p)]
    return rules.review_late and (session.status is Status.CANCELLED or _sum(in_time) < session.amount)


def _lateness(session: Session) -> frozenset[ExceptionName]:
    cancelled = session.status is Status.CANCELLED
    return frozenset({ExceptionName.AFTER_CANCEL if cancelled else ExceptionName.LATE})


def _split(session: Session, *, paid: bool, rules: Rules) -> tuple[Payment, ...]:
    """What is ordered stays ordered unless it went back; new money fills what is missing, oldest first."""
    kept = {p.id: p.ordered for p in session.payments if is_paid(p, session.currency)}
    missing = session.amount - sum(kept.values()) if paid else 0
    parts = []
    for p in session.payments:
        part = kept.get(p.id, 0)
        if p.id in kept:
            more = max(min(missing, p.counts - part), 0)
            part, missing = part + more, missing - more
        parts.append(_parts(p, part, waits=not paid and _waits(session, p, rules)))
    return tuple(parts)


def _waits(session: Session, p: Payment, rules: Rules) -> bool:
    """Whether money that pays for nothing yet is held rather than due back: what is due once stays due."""
    if session.status is Status.PENDING or session.custody is Custody.HANDED_OVER:
        return True
    late = session.status is Status.CANCELLED or is_late(session, p)
    return not p.refund_due and ((rules.review_late and late) or session.blanked_at is not None)


def _parts(p: Payment, part: Mongo, *, waits: bool) -> Payment:
    if not p.received:
        return replace(p, ordered=0, refund_due=0, refunded=0, held=0)
    if p.status == "REFUNDED":
        return replace(p, ordered=0, refund_due=0, refunded=p.amount, held=0)
    rest = p.amount - part - p.refunded
    return replace(p, ordered=part, held=rest if waits else 0, refund_due=0 if waits else rest)


def ordered(session: Session, counting: list[Payment], now: Micros) -> Session:
    """The move to PAID: orders and events, in the same commit as the payments."""
    used = {p.id for p in session.payments if p.ordered}
    paid_at = max(p.paid_at or p.seen_at for p in counting if p.id in used)
    flags = set(session.exceptions)
    if paid_at > session.expires_at:
        flags.add(ExceptionName.LATE)
    if session.status is Status.CANCELLED:
        flags.add(ExceptionName.AFTER_CANCEL)
    orders = orders_for(
        session.id,
        amount=session.amount,
        currency=session.currency,
        items=session.items,
        discount=session.discount,
        shipping_amount=session.shipping_amount,
        now=now,
    )
    after = replace(
        session.moved(Status.PAID),
        orders=orders,
        paid_at=paid_at,
        looks=tuple(look for look in session.looks if look.reason is not Reason.DEADLINE),
    )
    after = with_exceptions(after, frozenset(flags), now)
    made_before = session.claim.orders if session.claim else {}
    for order in (order for order in orders if order.shop_id not in made_before):
        after = after.with_news(
            "order.created",
            now,
            order_id=order.id,
            shop_id=order.shop_id,
            total=format_tugrik(order.total),
            currency=order.currency,
        )
    return after.with_news("session.paid", now, order_ids=[order.id for order in orders])


def _with_hints(session: Session, evidence: Evidence, now: Micros) -> Session:
    """Tell each hint what became of it; an answered look climbs the ladder, whose end leaves hints unconfirmed."""
    if not session.hints:
        return session
    hints = tuple(_resolved(hint, session, evidence) for hint in session.hints)
    ladder = next((look for look in session.looks if look.reason is Reason.CALLBACK), None)
    others = tuple(look for look in session.looks if look is not ladder)
    if all(hint.state is not HintState.WAITING for hint in hints):
        return _changed(session, hints, others)
    if ladder is None or not evidence.complete or not ladder.tries:
        return _changed(session, hints, session.looks)
    following = climbed(ladder, now)
    if following is None:
        hints = tuple(replace(h, state=HintState.UNCONFIRMED) if h.state is HintState.WAITING else h for h in hints)
        return _changed(session, hints, others)
    return _changed(session, hints, (*others, following))


def _resolved(hint: Hint, session: Session, evidence: Evidence) -> Hint:
    if hint.state in (HintState.CONFIRMED, HintState.FOREIGN):
        return hint
    if hint.payment_id in evidence.foreign or hint.payment_id in evidence.taken:
        return replace(hint, state=HintState.FOREIGN)
    if not hint.payment_id:
        return replace(hint, state=HintState.CONFIRMED) if session.status is Status.PAID else hint
    meant = [p for p in session.payments if hint.payment_id in (p.id, p.invoice_id)]
    if any(p.received or (p.status == "FAILED" and p.id == hint.payment_id) for p in meant):
        return replace(hint, state=HintState.CONFIRMED)
    return hint


def _changed(session: Session, hints: tuple[Hint, ...], looks: tuple[Look, ...]) -> Session:
    if hints == session.hints and looks == session.looks:
        return session
    return replace(session, hints=hints, looks=looks)
