"""The JSON of `why`: the story of an id, as models. No cart, no person's data, no raw answer and no note."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from tulbur.core.custody import Custody
from tulbur.core.refund import RefundState, RefundWay
from tulbur.core.session import ExceptionName, HintState, InvoiceState, Reason, Status
from tulbur.ports import Telling
from tulbur.web.models import Amount, Shape


class ToldRefund(Shape):
    """Money on its way back: who decided it, and how it goes."""

    amount: Amount
    way: RefundWay
    state: RefundState
    by: str
    reference: str | None
    at: datetime


class ToldPayment(Shape):
    """Money QPay reported; once received, it is split over ordered, refund_due, refunded and held."""

    id: str
    invoice_id: str
    status: str
    currency: str
    method: str
    seen_at: datetime
    paid_at: datetime | None
    amount: Amount
    ordered: Amount
    refund_due: Amount
    refunded: Amount
    held: Amount
    assigned_by: str | None
    refunds: tuple[ToldRefund, ...]


class ToldAttempt(Shape):
    """An invoice of the session, or one that was wanted."""

    number: int
    invoice_id: str | None
    sender_invoice_no: str
    state: InvoiceState
    created_at: datetime


class ToldOrder(Shape):
    """What one shop is to deliver, and of how many lines."""

    id: str
    shop_id: str
    total: Amount
    items: int


class ToldHint(Shape):
    """A payment id that a callback named, and what became of it; "" where it named none."""

    payment_id: str
    seen_at: datetime
    state: HintState


class ToldLook(Shape):
    """When and why QPay is asked next."""

    reason: Reason
    at: datetime
    tries: int


class ToldClaim(Shape):
    """What the old shop said of an imported session."""

    status: str
    source: str
    orders: dict[str, str]
    review: str
    taken_over_at: datetime | None


class ToldSession(Shape):
    """The session without cart and personal data."""

    id: str
    status: Status
    exceptions: Annotated[dict[ExceptionName, str], Field(description="each with its meaning")]
    amount: Amount
    currency: str
    created_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    cancelled_at: datetime | None
    last_check_at: datetime | None
    blanked_at: datetime | None
    custody: Custody
    old_shop: ToldClaim | None
    attempts: tuple[ToldAttempt, ...]
    payments: tuple[ToldPayment, ...]
    orders: tuple[ToldOrder, ...]
    hints: tuple[ToldHint, ...]
    looks: tuple[ToldLook, ...]


class ToldUnmatched(Shape):
    """A payment without a session; with `amount` null only its id is known yet."""

    payment_id: str
    hinted_session_id: str
    invoice_id: str
    amount: Amount | None
    currency: str
    status: str
    seen_at: datetime
    paid_at: datetime | None
    next_look_at: datetime | None
    looks: int
    closed_at: datetime | None


class ToldDelivery(Shape):
    """How far the shop was told of an event. `parked`: nobody tries any more. `ended`: it was not to be sent."""

    no: int | None
    id: str
    type: str
    state: Telling
    since: datetime
    attempts_failed: int
    retry_at: Annotated[datetime | None, Field(description="it is not sent again before")]
    delivered_at: datetime | None


class ToldEvent(Shape):
    """A line of history: who caused it, and what happened."""

    at: datetime
    source: str
    what: str
    type: str
    id: str


class Why(Shape):
    """The whole story behind an id, its verdict first; each line of `do` is a command to choose from."""

    id: str
    kind: Annotated[str, Field(description="what the id is of: session, order, invoice, payment, event …")]
    verdict: str
    do: tuple[str, ...]
    session: ToldSession | None
    unmatched: ToldUnmatched | None
    deliveries: tuple[ToldDelivery, ...]
    history: tuple[ToldEvent, ...]
    history_cut: Annotated[bool, Field(description="there is more history than is told")]
