"""A checkout from cart to orders: its data, its two axes (status and exceptions), its table of moves.

Times are microseconds since the epoch, UTC (`Micros`); amounts are möngö (`Mongo`). A session is a value: every step
in `steps` and `settling` returns the next one, or the same object when there is nothing to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, TypeAlias

from tulbur.core.custody import Claim, Custody
from tulbur.core.later import Later
from tulbur.core.money import Mongo
from tulbur.core.orders import Discount, Item, Order
from tulbur.core.refund import Refund
from tulbur.core.values import replace

Micros: TypeAlias = int
"""A point in time: microseconds since 1970-01-01 UTC."""

SECOND: Final = 1_000_000

_SPELLING: Final = json.JSONEncoder(sort_keys=True)


class Status(StrEnum):
    PENDING = "PENDING"
    PAID = "PAID"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


MOVES: Final[Mapping[tuple[Status, Status], str]] = {
    (Status.PENDING, Status.PAID): "QPay shows the amount paid",
    (Status.PENDING, Status.EXPIRED): "the deadline passed, QPay shows no full payment",
    (Status.PENDING, Status.CANCELLED): "the shop or the payer gave up",
    (Status.EXPIRED, Status.PAID): "late money counts",
    (Status.CANCELLED, Status.PAID): "money after cancelling still makes the order",
}
"""Every move a session can make, with its cause. There is no other, and none leaves PAID."""


class ExceptionName(StrEnum):
    """The named ways in which money and session disagree."""

    LATE = "late"
    AFTER_CANCEL = "after_cancel"
    UNDERPAID = "underpaid"
    OVERPAID = "overpaid"
    PAID_TWICE = "paid_twice"
    WRONG_CURRENCY = "wrong_currency"
    REFUNDED = "refunded"
    UNCONFIRMED = "unconfirmed"
    REFUND_UNCONFIRMED = "refund_unconfirmed"
    HANDED_OVER = "handed_over"
    CONTESTED = "contested"
    REVIEW = "review"


MEANINGS: Final[Mapping[ExceptionName, str]] = {
    ExceptionName.LATE: "paid after the deadline, by QPay's own date, else by first sight",
    ExceptionName.AFTER_CANCEL: "paid although the session had been cancelled; the orders are made",
    ExceptionName.UNDERPAID: "money came, but less than the amount, or only PARTIAL",
    ExceptionName.OVERPAID: "more money came than the amount; the excess is due back",
    ExceptionName.PAID_TWICE: "one payment covers the amount and there is another, which is due back",
    ExceptionName.WRONG_CURRENCY: "money came in another currency; it pays nothing",
    ExceptionName.REFUNDED: "QPay gave a payment back",
    ExceptionName.UNCONFIRMED: "QPay never showed a payment that was named, or gave no full answer for a week",
    ExceptionName.REFUND_UNCONFIRMED: "a refund was requested, but QPay still shows the payment as PAID",
    ExceptionName.HANDED_OVER: "paid after the session was exported to the old shop",
    ExceptionName.CONTESTED: "QPay shows a payment that another session already holds",
    ExceptionName.REVIEW: "imported from the old shop; a person has to look at it before it can be taken over",
}
"""What each exception tells the person who has to act on it."""


class InvoiceState(StrEnum):
    CREATING = "creating"
    OPEN = "open"
    UNKNOWN = "unknown"
    PAID = "paid"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Link:
    """A bank app that can pay the invoice."""

    name: str
    description: str
    logo: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """One attempt at an invoice. `creating` ends at `deadline`: after that it is unknown what QPay made."""

    number: int
    sender_invoice_no: str
    created_at: Micros
    deadline: Micros
    state: InvoiceState = InvoiceState.CREATING
    id: str | None = None
    qr_text: str = ""
    qr_image: str = ""
    short_url: str = ""
    links: tuple[Link, ...] = ()
    later: Later = ()


RECEIVED: Final = ("PARTIAL", "PAID", "REFUNDED")
"""The QPay statuses in which money has reached the shop, in the order in which they may follow each other."""

_RANKS: Final[Mapping[str, int]] = {"NEW": 0, "FAILED": 1, "PARTIAL": 2, "PAID": 3, "REFUNDED": 4}


def rank(status: str) -> int:
    """How far a QPay payment status has come; a status QPay never documented ranks as not yet paid."""
    return _RANKS.get(status, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """Money QPay reported. While received, `ordered + refund_due + refunded + held == amount`, else all are 0.

    `assigned_by` is who gave it to this session, where QPay shows it on no invoice of the session's.
    """

    id: str
    invoice_id: str
    amount: Mongo
    currency: str
    status: str
    method: str = ""
    wallet: str = ""
    seen_at: Micros
    paid_at: Micros | None = None
    raw: str = ""
    ordered: Mongo = 0
    refund_due: Mongo = 0
    refunded: Mongo = 0
    held: Mongo = 0
    refunds: tuple[Refund, ...] = ()
    assigned_by: str = ""
    later: Later = ()

    @property
    def received(self) -> bool:
        return self.status in RECEIVED

    @property
    def refund(self) -> Refund | None:
        """The refund that is not done yet; there is one at most."""
        return next((refund for refund in self.refunds if refund.is_open), None)

    @property
    def counts(self) -> Mongo:
        """What of it may pay for orders: not what went back or is to go back."""
        return max(self.amount - self.refunded - (self.refund.amount if self.refund else 0), 0)


class HintState(StrEnum):
    WAITING = "waiting"
    CONFIRMED = "confirmed"
    FOREIGN = "foreign"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class Hint:
    """A payment id a callback named: to be looked up, never believed. `payment_id` is "" when it named none.

    It is an invoice's id where QPay called that invoice paid without showing the payment.
    """

    payment_id: str
    seen_at: Micros
    state: HintState = HintState.WAITING
    later: Later = ()


class Reason(StrEnum):
    """Why tulbur asks QPay; each class of question has its own budget per session and day."""

    CALLBACK = "callback"
    PAYER = "payer"
    DEADLINE = "deadline"
    SWEEP = "sweep"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Look:
    """A reason to look again at `at`. `rung` counts answered questions, `tries` unanswered ones since."""

    reason: Reason
    at: Micros
    rung: int = 0
    tries: int = 0
    later: Later = ()


@dataclass(frozen=True, slots=True)
class Asks:
    """Questions asked on one UTC day, by class, and until when the latest one may still be under way."""

    day: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    last_at: Micros = 0
    busy_until: Micros = 0
    later: Later = ()


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a session's history; the public ones are also sent to the shop."""

    id: str
    type: str
    at: Micros
    data: Mapping[str, Any]


PUBLIC_EVENTS: Final = frozenset(
    {
        "session.opened",
        "session.invoiced",
        "session.paid",
        "session.expired",
        "session.cancelled",
        "session.exception",
        "payment.seen",
        "order.created",
        "refund.due",
        "refund.requested",
        "refund.done",
    }
)
"""The event types a shop receives; the others only tell the story of a session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One checkout; `version` grows by one with every commit, `news` are the events not yet committed.

    `additions` is 0, or the number of the later release whose fields are in `later`, here or further in.
    """

    id: str
    user_id: str
    amount: Mongo
    currency: str = "MNT"
    items: tuple[Item, ...] = ()
    discount: Discount | None = None
    shipping: Mapping[str, Any] = field(default_factory=dict)
    shipping_amount: Mongo = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    return_url: str | None = None
    scope: str = ""
    idempotency_key: str | None = None
    body_digest: str = ""
    created_at: Micros
    expires_at: Micros
    cache_seconds: int = 600
    status: Status = Status.PENDING
    exceptions: frozenset[ExceptionName] = frozenset()
    attempts: tuple[Invoice, ...] = ()
    payments: tuple[Payment, ...] = ()
    hints: tuple[Hint, ...] = ()
    looks: tuple[Look, ...] = ()
    asks: Asks = Asks()
    orders: tuple[Order, ...] = ()
    paid_at: Micros | None = None
    cancelled_at: Micros | None = None
    last_check_at: Micros | None = None
    blanked_at: Micros | None = None
    custody: Custody = Custody.OURS
    claim: Claim | None = None
    additions: int = 0
    later: Later = ()
    version: int = 0
    event_count: int = 0
    news: tuple[Event, ...] = ()

    @property
    def next_check_at(self) -> Micros | None:
        return min((look.at for look in self.looks), default=None)

    @property
    def payable(self) -> Invoice | None:
        """The one attempt whose QR may be shown: the latest open one, while the session waits for money."""
        if self.status is not Status.PENDING:
            return None
        shown = (a for a in reversed(self.attempts) if a.state is InvoiceState.OPEN and a.qr_text)
        return next(shown, None)

    @property
    def asked_about(self) -> tuple[Invoice, ...]:
        """Every attempt QPay can be asked about, cancelled ones too: money may have reached any of them."""
        return tuple(attempt for attempt in self.attempts if attempt.id)

    def sum(self, part: str) -> Mongo:
        """The sum over payments of one part: "ordered", "refund_due", "refunded", "held", or "received"."""
        own = [p for p in self.payments if p.received and p.currency == self.currency]
        if part == "received":
            return sum(p.amount for p in own)
        return sum(int(getattr(p, part)) for p in own)

    def payment(self, payment_id: str) -> Payment | None:
        return next((p for p in self.payments if p.id == payment_id), None)

    def with_news(self, type_: str, at: Micros, **data: Any) -> Session:  # noqa: ANN401 - JSON values
        """Append an event. Its id is derived, so a retried step names the same event.

        Of what it tells, too: after a restore the n-th event may tell something else, and shops keep the ids they know.
        """
        number = self.event_count + 1
        digest = sha256(_SPELLING.encode([self.id, number, type_, data]).encode()).hexdigest()
        event = Event(id=f"evt_{digest[:28]}", type=type_, at=at, data=data)
        return replace(self, event_count=number, news=(*self.news, event))

    def committed(self) -> Session:
        """This session as the store holds it after the commit was won."""
        return replace(self, version=self.version + 1, news=())

    def moved(self, to: Status) -> Session:
        """Change the status along the table of moves."""
        if (self.status, to) not in MOVES:
            raise AssertionError(f"no move {self.status} -> {to}")  # a bug here, never input
        return replace(self, status=to)
