"""Sessions that come from the old shop: imported and followed, brought up to date, then taken over.

What is imported is held: until it is taken over the old shop may still make its orders, so nothing is asked and no
order is made. What the old shop claims is only a claim: what it called paid, without orders, settles like any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final

from tulbur.core.custody import Claim, Custody, is_adoptable
from tulbur.core.money import Mongo
from tulbur.core.old_cart import OldCart, discount_for, read_cart
from tulbur.core.old_orders import is_complete, paid_before, totals_of, unclear
from tulbur.core.schedule import first_rung, waiting
from tulbur.core.session import (
    MOVES,
    SECOND,
    ExceptionName,
    Hint,
    HintState,
    Invoice,
    InvoiceState,
    Look,
    Micros,
    Reason,
    Session,
    Status,
)
from tulbur.core.settling import InvoiceSeen
from tulbur.core.steps import InvoiceMade, with_exceptions, with_invoice
from tulbur.core.values import replace
from tulbur.errors import AmountMismatch, Conflict, Invalid

OLD_TTL_SECONDS: Final = 600
"""How long the old shop kept a session that names no end."""

LONGEST_DEADLINE_SECONDS: Final = 30 * 86_400
"""The latest deadline of a session taken over, as of any other; a row may say the year 9999."""


class OldStatus(StrEnum):
    """The words of the old shop's `status`."""

    PENDING = "PENDING"
    PAID = "PAID"
    PROCESSED = "PROCESSED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


_OURS: Final[Mapping[OldStatus, Status]] = {
    # Paid without orders is not PAID here: it waits, and QPay is asked when it is taken over.
    OldStatus.PENDING: Status.PENDING,
    OldStatus.PAID: Status.PENDING,
    OldStatus.PROCESSED: Status.PENDING,
    OldStatus.FAILED: Status.EXPIRED,
    OldStatus.CANCELLED: Status.CANCELLED,
    OldStatus.EXPIRED: Status.EXPIRED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OldSession:
    """A `QPayPaymentSession` with what `QPayProcessedInvoice` and `orders` say of it; times in microseconds.

    `orders` are the ones that exist, by shop ("" where the row names none, with every id between commas). `doubt` is
    why it cannot be told which exist; "" when it can.
    """

    id: str
    user_id: str
    amount: Mongo
    currency: str
    payload: Mapping[str, Any]
    status: OldStatus
    invoice_id: str = ""
    payment_id: str = ""
    created_at: Micros
    updated_at: Micros
    expires_at: Micros | None = None
    last_check_at: Micros | None = None
    cancelled_at: Micros | None = None
    processed_at: Micros | None = None
    orders: Mapping[str, str] = field(default_factory=dict)
    ebarimt: Mapping[str, str] = field(default_factory=dict)
    token_digest: str = ""
    source: str = "database"
    doubt: str = ""
    checked: bool = True

    @property
    def digest(self) -> str:
        """Over everything the old shop would change; the times of a Redis key are ours, not its."""
        said = [self.id, self.user_id, self.amount, self.currency, self.payload, self.status.value]
        said += [self.invoice_id, self.payment_id, sorted(self.orders.items()), self.source, self.doubt]
        if self.source == "database":
            said += [self.updated_at, self.processed_at]
        return sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def imported(old: OldSession, now: Micros) -> Session:
    """A session of the old shop's as we follow it; with its orders it is PAID, and nothing is left to do for it."""
    cart, review = _cart(old)
    claim = Claim(
        status=old.status.value,
        digest=old.digest,
        source=old.source,
        orders=old.orders,
        payment_id=old.payment_id,
        token_digest=old.token_digest,
        review=review,
        checked=old.checked,
    )
    session = Session(
        id=old.id,
        user_id=old.user_id,
        amount=old.amount,
        currency=old.currency,
        items=cart.items if cart else (),
        discount=discount_for(cart.items, cart.total, cart.coupon) if cart and not review else None,
        shipping=cart.shipping if cart else {},
        metadata=_metadata(old, cart),
        created_at=old.created_at,
        expires_at=old.expires_at or old.created_at + OLD_TTL_SECONDS * SECOND,
        # Never cached while followed: the key is the old shop's own.
        cache_seconds=0,
        status=_OURS[old.status],
        exceptions=frozenset({ExceptionName.REVIEW}) if review else frozenset(),
        attempts=(_attempt(old),),
        last_check_at=old.last_check_at,
        cancelled_at=(old.cancelled_at or old.updated_at) if old.status is OldStatus.CANCELLED else None,
        custody=Custody.FOLLOWED,
        claim=claim,
    )
    if not review and is_complete(old.orders, session.items):
        session = paid_before(session, old.processed_at or old.updated_at)
    return session.with_news("session.imported", now, status=old.status.value, review=review)


def order_totals(old: OldSession) -> Mapping[str, Mongo]:
    """What each shop's order comes to; nothing where the cart is for a person."""
    session = imported(replace(old, orders={}), old.created_at)
    if session.claim is None or session.claim.review:
        return {}
    return totals_of(session)


def reimported(stored: Session, old: OldSession, now: Micros) -> Session:
    """The same session read again: what the old shop did since then is taken in; the hints and the story stay."""
    if stored.custody is not Custody.FOLLOWED or stored.claim is None or stored.claim.digest == old.digest:
        return stored
    if (old.source == "redis" and stored.claim.source == "database") or (stored.claim.checked and not old.checked):
        return stored  # what was read before says more
    fresh = _again(stored, stored.claim, old, now)
    if stored.status is Status.PAID and fresh.claim:  # its orders are rows, and never change: nothing is left to decide
        attempts = _same_numbers(stored, fresh)
        after = replace(stored, claim=replace(fresh.claim, review=""), attempts=attempts)
    else:
        after = replace(
            fresh,
            user_id=stored.user_id,
            created_at=stored.created_at,
            status=fresh.status if (stored.status, fresh.status) in MOVES else stored.status,
            cancelled_at=stored.cancelled_at or fresh.cancelled_at,
            attempts=_same_numbers(stored, fresh),
            hints=stored.hints,
            looks=stored.looks if is_adoptable(fresh.custody, fresh.claim) else (),
            asks=stored.asks,
            exceptions=stored.exceptions - {ExceptionName.REVIEW} | fresh.exceptions,
            additions=stored.additions,
            later=stored.later,
            version=stored.version,
            event_count=stored.event_count,
            news=(),
        )
    return after.with_news("session.imported", now, **fresh.news[0].data)


def _again(stored: Session, claim: Claim, old: OldSession, now: Micros) -> Session:
    """The row as it is imported now: an order counts as made, whoever took its row away, and is for the first payer."""
    doubt = old.doubt or ("" if old.user_id == stored.user_id else "the payer is not the one it was imported with")
    fresh = imported(replace(old, orders={**claim.orders, **old.orders}, doubt=doubt), now)
    return replace(fresh, claim=replace(fresh.claim, digest=old.digest) if fresh.claim else None)


def is_old_token(session: Session, token: str) -> bool:
    """Whether the old shop gave QPay this token for this session; only the token's digest was kept."""
    return is_old_digest(session, digest_of(token))


def is_old_digest(session: Session, token_digest: str) -> bool:
    kept = session.claim.token_digest if session.claim else ""
    return bool(kept) and compare_digest(kept, token_digest)


def digest_of(token: str) -> str:
    return sha256(token.encode(errors="replace")).hexdigest()


def adopted(session: Session, invoice: InvoiceSeen, now: Micros, *, named: bool) -> Session:
    """A callback came to us for a session of the old shop's Redis, and QPay shows its invoice: ours if that agrees.

    QPay must have it over the same amount and, which `named` says, for this session: anybody may have written the key.
    Else a person has to look. It is never cached: the key is the old shop's.
    """
    claim = session.claim
    if claim is None or not is_adoptable(session.custody, claim):
        return session
    why = "" if invoice.amount == session.amount else "QPay has its invoice over another amount"
    why = why if named else "QPay has its invoice for another session"
    if why:
        after = replace(session, claim=replace(claim, review=why), looks=())
        return with_exceptions(after, session.exceptions | {ExceptionName.REVIEW}, now)
    known = session if session.asked_about else with_invoice(session, 1, InvoiceMade(id=invoice.id), now)
    return taken_over(known, now, look_at=first_rung(now).at, cache_seconds=0)


def reviewed(session: Session, now: Micros, *, by: str, note: str, look_at: Micros) -> Session:
    """A person lets a session in that did not add up: it is ours, and what QPay shows of it counts.

    A cart that does not come to the amount makes one order of the amount; it is kept beside it for whoever packs.
    """
    claim = session.claim
    if session.custody is not Custody.FOLLOWED or claim is None or not claim.review:
        raise Conflict("no person has to look at this session")
    told = session.with_news("session.reviewed", now, decision="accept", by=by, note=note, why=claim.review)
    fits = bool(session.items) and sum(item.total for item in session.items) - _off(session) == session.amount
    cart = [{"shop_id": i.shop_id, "product_id": i.product_id, "quantity": i.quantity} for i in session.items]
    let_in = replace(
        told,
        items=session.items if fits else (),
        discount=session.discount if fits else None,
        metadata=session.metadata if fits else {**session.metadata, "old_cart": cart},
        claim=replace(claim, review=""),
        exceptions=session.exceptions - {ExceptionName.REVIEW},
    )
    return taken_over(let_in, now, look_at=look_at, cache_seconds=0)


def _off(session: Session) -> Mongo:
    return session.discount.amount if session.discount else 0


def taken_over(session: Session, now: Micros, *, look_at: Micros, cache_seconds: int = OLD_TTL_SECONDS) -> Session:
    """From now on it is ours, and whatever has no orders is looked at.

    At its deadline, or at `look_at` where that has passed, or where the old shop had closed it or had seen money.
    What a person has to decide first stays followed.
    """
    claim = session.claim
    if session.custody is not Custody.FOLLOWED or claim is None or claim.review:
        return session
    hints = tuple(replace(h, seen_at=now) if h.state is HintState.WAITING else h for h in session.hints)
    open_ = session.status is not Status.PAID
    if claim.payment_id and open_ and all(h.payment_id != claim.payment_id for h in hints):
        hints += (Hint(claim.payment_id, now),)
    looks = []
    expires_at = min(session.expires_at, now + LONGEST_DEADLINE_SECONDS * SECOND)
    if session.status is Status.PENDING:
        looks.append(Look(Reason.DEADLINE, max(look_at, expires_at)))
    if open_ and not claim.status == session.status == Status.PENDING:
        looks.append(Look(Reason.SWEEP, look_at))
    if waiting(hints):
        looks.append(replace(first_rung(now), at=look_at))
    after = replace(
        session,
        custody=Custody.OURS,
        claim=replace(claim, taken_at=now),
        expires_at=expires_at,
        # A clock ahead of ours must not look like an answer that came after the take-over.
        last_check_at=session.last_check_at if (session.last_check_at or 0) < now else None,
        hints=hints,
        looks=tuple(looks),
        cache_seconds=cache_seconds,
    )
    return after.with_news("session.taken_over", now)


def _cart(old: OldSession) -> tuple[OldCart | None, str]:
    """The cart, and why a person has to look at it first."""
    try:
        cart = read_cart(old.payload)
    except Invalid as wrong:
        return None, wrong.message
    try:
        if cart.total != old.amount:
            raise AmountMismatch("the payer was not asked what the cart says")
        _checked(old.amount, cart)
    except Invalid as wrong:
        return cart, wrong.message
    return cart, old.doubt or unclear(old.orders, cart.items)


def _checked(amount: Mongo, cart: OldCart) -> None:
    discount = discount_for(cart.items, cart.total, cart.coupon)
    if amount <= 0:
        raise Invalid("the amount is not more than zero")
    if discount is not None and discount.amount:
        held = sum(item.total for item in cart.items if item.product_id == discount.product_id)
        if discount.amount > held:
            raise Invalid("the coupon is more than what it is taken from")


def _metadata(old: OldSession, cart: OldCart | None) -> Mapping[str, Any]:
    kept: dict[str, Any] = dict(cart.metadata) if cart else {}
    if old.orders:
        kept["old_order_ids"] = dict(old.orders)
    if old.ebarimt:
        kept["ebarimt"] = dict(old.ebarimt)
    return kept


def _attempt(old: OldSession) -> Invoice:
    """The old shop's invoice; it numbered invoices by session, which finds the one whose id it lost."""
    state = InvoiceState.OPEN if old.invoice_id else InvoiceState.UNKNOWN
    if old.invoice_id and old.status is OldStatus.CANCELLED:
        state = InvoiceState.CANCELLED
    return Invoice(
        number=1,
        sender_invoice_no=old.id,
        created_at=old.created_at,
        deadline=old.created_at,
        state=state,
        id=old.invoice_id or None,
    )


def _same_numbers(stored: Session, fresh: Session) -> tuple[Invoice, ...]:
    """An invoice that got another id in the old shop is one attempt more: money may have reached either."""
    before, now = stored.attempts[-1], fresh.attempts[0]
    if before.id is None or before.id == now.id:
        same = replace(now, number=before.number, sender_invoice_no=before.sender_invoice_no, later=before.later)
        return (*stored.attempts[:-1], same)
    if now.id is None or any(attempt.id == now.id for attempt in stored.attempts):
        return stored.attempts
    number = before.number + 1
    return (*stored.attempts, replace(now, number=number, sender_invoice_no=f"{fresh.id}/{number}"))
