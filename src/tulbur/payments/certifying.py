"""Prove: QPay's list of a time compared with our records, line by line; nothing is changed, and nothing settled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tulbur.core.certificate import Certificate, is_money
from tulbur.core.schedule import DAY
from tulbur.core.session import RECEIVED, Micros, Payment, Session
from tulbur.core.settling import SeenPayment
from tulbur.errors import ProviderError
from tulbur.payments.belonging import Whose, belonging
from tulbur.payments.desk import Desk
from tulbur.payments.listing import read
from tulbur.ports import MOST_ROWS, NumberedEvent

MOST_ASKED: Final = 2_000
"""Questions about invoices and payments that the list leaves open, in one certificate."""

MOST_EVENTS: Final = 500_000
"""Events looked through for payments of ours that the list lacks."""

SEEN_WITHIN: Final = DAY
"""A payment of ours is looked for among what was seen until so long after the time: later ones came from the list."""


@dataclass(slots=True)
class _Left:
    questions: int = MOST_ASKED
    ids: set[str] = field(default_factory=set)
    foreign_invoices: set[str] = field(default_factory=set)


async def prove(desk: Desk, start: Micros, end: Micros) -> Certificate:
    """The certificate of the payments made from `start` to before `end`, by QPay's own dates."""
    certificate = Certificate(start, end)
    listing = await read(desk.provider, start, end)
    certificate.trouble = listing.trouble
    left = _Left()
    for seen in sorted(listing.payments.values(), key=lambda p: (p.paid_at or 0, p.id)):
        if seen.paid_at is None:
            certificate.differs(seen.id, "QPay tells no date")
        if certificate.holds(seen.paid_at) or seen.paid_at is None:
            await _listed(desk, certificate, left, seen)
    if not certificate.trouble:
        await _lacking(desk, certificate, left, set(listing.payments))
    return certificate


async def _listed(desk: Desk, certificate: Certificate, left: _Left, seen: SeenPayment) -> None:
    money = is_money(seen)
    if money is None:
        certificate.differs(seen.id, f"QPay calls it {seen.status}: whether that is money is not known")
    if not money:
        return
    certificate.listed(seen)
    session = await desk.store.by_payment(seen.id)
    payment = session.payment(seen.id) if session else None
    if session is not None and payment is not None:
        certificate.is_recorded(seen, payment, session.id)
        return
    await _without_session(desk, certificate, left, seen)


async def _without_session(desk: Desk, certificate: Certificate, left: _Left, seen: SeenPayment) -> None:
    if seen.invoice_id in left.foreign_invoices:
        certificate.is_foreign(seen)
        return
    kept = await desk.store.unmatched_payment(seen.id)
    if left.questions <= 0:
        certificate.trouble = certificate.trouble or f"more than {MOST_ASKED} questions: ask for a shorter time"
        return
    left.questions -= 1
    try:
        found = await belonging(desk, seen)
    except ProviderError as error:
        certificate.trouble = certificate.trouble or error.message
        return
    if found.whose in (Whose.FOREIGN, Whose.THEIRS):
        certificate.is_foreign(seen)
        left.foreign_invoices.add(found.payment.invoice_id)
    elif found.session is not None:
        certificate.differs(seen.id, "not recorded here", found.session.id)
    elif kept is not None and kept.amount is not None:
        certificate.is_unmatched(seen, kept.amount, kept.currency, kept.status)
    elif kept is not None:
        certificate.differs(seen.id, "known here by its id alone, and not looked up yet", kept.hinted_session_id)
    else:
        certificate.differs(seen.id, "not recorded here, and its session is not stored")


# --- what the list lacks ---------------------------------------------------------------------------------------------


async def _lacking(desk: Desk, certificate: Certificate, left: _Left, listed: set[str]) -> None:
    """Payments of ours, made in this time, that QPay does not list."""
    after = await number_before(desk, certificate.start)
    until = certificate.end + SEEN_WITHIN
    for _ in range(MOST_EVENTS // MOST_ROWS):
        events = await desk.store.events(after, MOST_ROWS)
        for event in events:
            if event.event.type == "payment.seen":
                await _seen(desk, certificate, left, event, listed)
        if len(events) < MOST_ROWS or events[-1].event.at >= until:
            return
        after = events[-1].no
    certificate.trouble = certificate.trouble or f"more than {MOST_EVENTS} events: ask for a shorter time"


async def number_before(desk: Desk, at: Micros) -> int:
    """An event number behind which everything later than `at` is; numbers follow the time but for a little."""
    low, high = 0, 1
    while high < 2**62 and await _is_before(desk, high, at):
        low, high = high, high * 2
    while high - low > MOST_ROWS:
        middle = (low + high) // 2
        low, high = (middle, high) if await _is_before(desk, middle, at) else (low, middle)
    return max(low - MOST_ROWS, 0)


async def _is_before(desk: Desk, number: int, at: Micros) -> bool:
    found = await desk.store.events(number, 1)
    return bool(found) and found[0].event.at < at


async def _seen(desk: Desk, certificate: Certificate, left: _Left, event: NumberedEvent, listed: set[str]) -> None:
    payment_id = str(event.event.data.get("payment_id", ""))
    if payment_id in listed or payment_id in left.ids:
        return
    left.ids.add(payment_id)
    session = await desk.store.by_payment(payment_id)
    payment = session.payment(payment_id) if session else None
    if session is None or payment is None or payment.status not in RECEIVED:
        return
    if payment.paid_at is not None:
        if certificate.holds(payment.paid_at):
            certificate.differs(payment_id, "recorded here, and not listed by QPay", session.id)
    elif payment.seen_at >= certificate.start:
        await _undated(desk, certificate, left, session, payment)


async def _undated(desk: Desk, certificate: Certificate, left: _Left, session: Session, payment: Payment) -> None:
    """We know when it was seen, not when it was made: QPay is asked."""
    if left.questions <= 0:
        certificate.trouble = certificate.trouble or f"more than {MOST_ASKED} questions: ask for a shorter time"
        return
    left.questions -= 1
    try:
        shown = await desk.provider.get_payment(payment.id)
    except ProviderError as error:
        certificate.trouble = certificate.trouble or error.message
        return
    if shown is None or shown.paid_at is None or certificate.holds(shown.paid_at):
        certificate.differs(payment.id, "recorded here, and not listed by QPay", session.id)
