"""From what is stored to the JSON that tulbur answers with."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, overload

import segno

from tulbur.core import orders as core_orders
from tulbur.core import refund as core_refund
from tulbur.core import session as core
from tulbur.core.session import InvoiceState, Micros, Status
from tulbur.links import Links
from tulbur.ports import NumberedEvent, StoreStats
from tulbur.web.fields import tugrik
from tulbur.web.intake import OpenDiscount, OpenItem, SessionOpen, body_digest, open_request
from tulbur.web.models import (
    Discount,
    Event,
    FieldError,
    Held,
    Invoice,
    Item,
    Link,
    Order,
    Page,
    Payment,
    Problem,
    Refund,
    RefundDue,
    Session,
    Stats,
    StoredOrder,
)

__all__ = [
    "Discount",
    "Event",
    "FieldError",
    "Invoice",
    "Item",
    "Link",
    "OpenDiscount",
    "OpenItem",
    "Order",
    "Page",
    "Payment",
    "Problem",
    "Refund",
    "RefundDue",
    "Session",
    "SessionOpen",
    "Stats",
    "StoredOrder",
    "as_time",
    "body_digest",
    "event_shape",
    "open_request",
    "order_shape",
    "qr_png",
    "session_shape",
    "stats_shape",
    "stored_order_shape",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

LOAD_SOURCES: Final = ("cache", "database", "adopted")
"""Where a callback can find its session; the last two are fallbacks."""


def session_shape(session: core.Session, links: Links, *, draw_qr: bool = True) -> Session:
    """A stored session as its users see it. `draw_qr` False leaves a picture QPay did not send out, for long lists."""
    return Session(
        id=session.id,
        status=session.status,
        exceptions=tuple(sorted(session.exceptions)),
        amount=tugrik(session.amount),
        currency=session.currency,
        received=tugrik(session.sum("received")),
        held=tugrik(session.sum("held")),
        refund_due=tugrik(session.sum("refund_due")),
        refunded=tugrik(session.sum("refunded")),
        user_id=session.user_id,
        items=tuple(_item(item) for item in session.items),
        discount=_discount(session.discount),
        shipping=dict(session.shipping),
        shipping_amount=tugrik(session.shipping_amount),
        metadata=dict(session.metadata),
        description=session.description,
        return_url=session.return_url,
        created_at=as_time(session.created_at),
        expires_at=as_time(session.expires_at),
        paid_at=as_time(session.paid_at),
        cancelled_at=as_time(session.cancelled_at),
        last_check_at=as_time(session.last_check_at),
        checkout_url=links.checkout_url(session.id),
        invoice=_invoice(session, draw_qr=draw_qr),
        payments=tuple(_payment(payment) for payment in session.payments),
        orders=tuple(order_shape(order) for order in session.orders),
    )


def _invoice(session: core.Session, *, draw_qr: bool) -> Invoice | None:
    payable = session.payable
    latest = payable or next((a for a in reversed(session.attempts) if a.id), None)
    if latest is None or latest.id is None:
        return None
    # An expired session keeps its invoice open, for late money counts; any other QR must not be paid any more.
    open_still = latest.state is InvoiceState.OPEN and session.status in (Status.PENDING, Status.EXPIRED)
    if not open_still:
        return Invoice(id=latest.id, qr_text="", qr_image="", short_url="", links=())
    drawn = qr_png(latest.qr_text) if draw_qr and payable and not latest.qr_image else ""
    return Invoice(
        id=latest.id,
        qr_text=latest.qr_text,
        qr_image=latest.qr_image or drawn,
        short_url=latest.short_url,
        links=tuple(Link(name=a.name, description=a.description, logo=a.logo, link=a.link) for a in latest.links),
    )


@lru_cache(maxsize=512)
def qr_png(text: str) -> str:
    """The QR code of a text as a PNG in base64; drawing one takes some 20 ms, so the latest are kept."""
    picture = io.BytesIO()
    segno.make(text, micro=False).save(picture, kind="png", scale=5, border=4)
    return b64encode(picture.getvalue()).decode()


def _item(item: core_orders.Item) -> Item:
    return Item(
        shop_id=item.shop_id,
        product_id=item.product_id,
        title=item.title,
        quantity=item.quantity,
        unit_price=tugrik(item.unit_price),
        options=dict(item.options),
    )


def _discount(discount: core_orders.Discount | None) -> Discount | None:
    if discount is None:
        return None
    return Discount(code=discount.code, amount=tugrik(discount.amount), product_id=discount.product_id)


def _payment(payment: core.Payment) -> Payment:
    return Payment(
        id=payment.id,
        amount=tugrik(payment.amount),
        currency=payment.currency,
        status=payment.status,
        method=payment.method,
        wallet=payment.wallet,
        seen_at=as_time(payment.seen_at),
        ordered=tugrik(payment.ordered),
        refund_due=tugrik(payment.refund_due),
        refunded=tugrik(payment.refunded),
        held=tugrik(payment.held),
        refunds=tuple(_refund(refund) for refund in payment.refunds),
        assigned_by=payment.assigned_by or None,
    )


def _refund(refund: core_refund.Refund) -> Refund:
    return Refund(
        amount=tugrik(refund.amount),
        way=refund.way,
        state=refund.state,
        by=refund.by,
        requested_at=as_time(refund.at),
        reference=refund.reference or None,
        note=refund.note,
    )


def order_shape(order: core_orders.Order) -> Order:
    return Order(**_order(order))


def stored_order_shape(session_id: str, order: core_orders.Order) -> StoredOrder:
    return StoredOrder(session_id=session_id, **_order(order))


def _order(order: core_orders.Order) -> dict[str, Any]:
    return {
        "id": order.id,
        "shop_id": order.shop_id,
        "total": tugrik(order.total),
        "discount": tugrik(order.discount),
        "shipping_amount": tugrik(order.shipping_amount),
        "currency": order.currency,
        "items": tuple(_item(item) for item in order.items),
        "created_at": as_time(order.created_at),
    }


def event_shape(numbered: NumberedEvent) -> Event:
    event = numbered.event
    return Event(
        no=numbered.no,
        id=event.id,
        type=event.type,
        session_id=numbered.session_id,
        at=as_time(event.at),
        data=dict(event.data),
    )


def stats_shape(stats: StoreStats, *, with_rate: bool) -> Stats:
    """The store's counts; `with_rate` False where the cache is not shared, so that the rate would mean nothing."""
    loads = {source: stats.loads.get(source, 0) for source in LOAD_SOURCES}
    return Stats(
        sessions=sum(stats.by_status.values()),
        by_status={status: stats.by_status.get(status, 0) for status in Status},
        by_exception={name: count for name, count in sorted(stats.by_exception.items()) if count},
        created_24h=stats.created_24h,
        orders=stats.orders,
        refund_due=RefundDue(count=stats.refund_due_count, amount=tugrik(stats.refund_due)),
        held=Held(count=stats.held_count, amount=tugrik(stats.held)),
        unmatched=stats.unmatched,
        loads=loads,
        fallback_rate=_fallback_rate(loads) if with_rate else None,
        checks_due=stats.checks_due,
        events_undelivered=stats.events_undelivered,
        events_parked=stats.events_parked,
        swept_until=as_time(stats.swept_until),
    )


def _fallback_rate(loads: Mapping[str, int]) -> float | None:
    total = sum(loads.values())
    return round((total - loads["cache"]) / total, 6) if total else None


@overload
def as_time(at: Micros) -> datetime: ...
@overload
def as_time(at: None) -> None: ...
def as_time(at: Micros | None) -> datetime | None:
    """A stored time as its readers see it."""
    return None if at is None else _EPOCH + timedelta(microseconds=at)
