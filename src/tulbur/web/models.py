"""The JSON that tulbur answers with, as models: in Python money is Decimal tugrik and times are aware datetimes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tulbur.core.refund import RefundState, RefundWay
from tulbur.core.session import ExceptionName, Status
from tulbur.ports import Disposition

Amount: TypeAlias = Annotated[
    Decimal,
    WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{2}$", "examples": ["50000.00"]}),
]


class Shape(BaseModel):
    model_config = ConfigDict(frozen=True)


class Item(Shape):
    """One line of the cart."""

    shop_id: str
    product_id: str
    title: str
    quantity: int
    unit_price: Amount
    options: dict[str, Any]


class Discount(Shape):
    """An amount off; on one product where `product_id` is given."""

    code: str
    amount: Amount
    product_id: str | None


class Link(Shape):
    """A bank app that can pay the invoice."""

    name: str
    description: str
    logo: str
    link: str


class Invoice(Shape):
    """The invoice to pay; when there is none to pay, the latest one, without its QR and links.

    `qr_image` is a PNG in base64, without a prefix.
    """

    id: str
    qr_text: str
    qr_image: str
    short_url: str
    links: tuple[Link, ...]


class Refund(Shape):
    """Money on its way back: `by` decided it, `reference` is what a person paid it back with."""

    amount: Amount
    way: Annotated[RefundWay, Field(description="qpay: the whole of a card payment; person: somebody pays it back")]
    state: Annotated[
        RefundState,
        Field(
            description="decided: nobody is at it; requested; unconfirmed: QPay was asked, and does not show it; done"
        ),
    ]
    by: str
    requested_at: datetime
    reference: str | None
    note: str


class Payment(Shape):
    """Money QPay reported. Once received, it is split over ordered, refund_due, refunded and held."""

    id: str
    amount: Amount
    currency: str
    status: Annotated[str, Field(description="QPay's own: NEW, FAILED, PARTIAL, PAID, REFUNDED, or one to come")]
    method: str
    wallet: str
    seen_at: datetime
    ordered: Amount
    refund_due: Amount
    refunded: Amount
    held: Amount
    refunds: tuple[Refund, ...]
    assigned_by: Annotated[str | None, Field(description="who gave it to this session; QPay shows it elsewhere")]


class ListedPayment(Shape):
    """A payment on the list of work; with `amount` null only its id is known yet, from a callback."""

    id: str
    disposition: Annotated[Disposition | None, Field(description="what has to be decided; null: nothing any more")]
    session_id: str | None
    hinted_session_id: Annotated[str | None, Field(description="the session its callback named, which is not stored")]
    invoice_id: str | None
    amount: Amount | None
    currency: str
    status: str
    method: str
    wallet: str
    seen_at: datetime
    paid_at: datetime | None
    ordered: Amount
    refund_due: Amount
    refunded: Amount
    held: Amount
    closed_at: datetime | None
    reference: str | None
    note: str
    closed_by: str | None


class Order(Shape):
    """What one shop is to deliver: total = its items - discount + shipping_amount."""

    id: str
    shop_id: str
    total: Amount
    discount: Amount
    shipping_amount: Amount
    currency: str
    items: tuple[Item, ...]
    created_at: datetime


class StoredOrder(Order):
    """An order and whose it is."""

    session_id: str


class Session(Shape):
    """One checkout, from cart to orders."""

    id: str
    status: Status
    exceptions: Annotated[tuple[ExceptionName, ...], Field(description="how money and session disagree")]
    amount: Amount
    currency: str
    received: Amount
    held: Amount
    refund_due: Amount
    refunded: Amount
    user_id: str
    items: tuple[Item, ...]
    discount: Discount | None
    shipping: dict[str, Any]
    shipping_amount: Amount
    metadata: dict[str, Any]
    description: str
    return_url: str | None
    created_at: datetime
    expires_at: datetime
    paid_at: datetime | None
    cancelled_at: datetime | None
    last_check_at: datetime | None
    checkout_url: str
    invoice: Invoice | None
    payments: tuple[Payment, ...]
    orders: tuple[Order, ...]


class Event(Shape):
    """A line of history; `no` grows and never skips one that comes later."""

    no: int
    id: str
    type: str
    session_id: str
    at: datetime
    data: dict[str, Any]


class RefundDue(Shape):
    """Payments of which something is due back, and how much in all."""

    count: int
    amount: Amount


class Held(Shape):
    """Payments of which something is held until somebody decides or the payer pays the rest, and how much in all."""

    count: int
    amount: Amount


class Stats(Shape):
    """Counts over everything stored; `loads` and `fallback_rate` are callbacks of the last 24 hours, all processes."""

    sessions: int
    by_status: dict[Status, int]
    by_exception: dict[str, int]
    created_24h: int
    orders: int
    refund_due: RefundDue
    held: Held
    unmatched: Annotated[int, Field(description="payments without a session that nobody has closed")]
    loads: dict[str, int]
    fallback_rate: Annotated[
        float | None,
        Field(description="share of callbacks that the cache could not serve; null when there were none to measure"),
    ]
    checks_due: int
    events_undelivered: int
    events_parked: int
    swept_until: Annotated[
        datetime | None, Field(description="up to when QPay's list was compared with our records; null: never")
    ]


T = TypeVar("T")


class Page(Shape, Generic[T]):
    """A part of a list; `next_cursor` leads to the next one, null at the end."""

    items: tuple[T, ...]
    next_cursor: str | None


class FieldError(Shape):
    """A wrong value, by its place; the value itself is never repeated."""

    field: str
    message: str


class Problem(Shape):
    """RFC 9457: what went wrong, with a stable `code` and one plain sentence in `detail`."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    session_id: Annotated[str | None, Field(description="the session that is stored, where a retry goes on")] = None
    key: Annotated[str | None, Field(description="QPay's own error key (provider_refused)")] = None
    fields: Annotated[dict[str, str] | None, Field(description="QPay's message per field (provider_refused)")] = None
    errors: Annotated[tuple[FieldError, ...] | None, Field(description="each wrong value (invalid)")] = None
