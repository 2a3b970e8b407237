"""A session in the old shop's shape, the JSON it keeps under `payment-session:<id>`; or why that shape cannot say it.

What is written is read back by the same reader that imports, and has to mean the same cart, discount, amount and
invoice: the old shop makes its orders of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tulbur.core.money import Mongo
from tulbur.core.old_cart import discount_for, old_text, read_cart
from tulbur.core.orders import Item
from tulbur.core.session import Invoice, InvoiceState, Session
from tulbur.errors import Invalid

_ADDRESS: Final = "shippingAddressId"
_ADDED: Final = frozenset({"old_order_ids", "ebarimt"})
"""What importing added to the shop's own fields."""


def old_payload(session: Session) -> dict[str, Any]:
    """The session JSON. Fields the shop once sent and nobody counts with are in `metadata`, and go back as they were.

    Raises:
        Invalid: the shape has no words for this session; the sentence says what for.
    """
    _refuse_unsayable(session)
    kept = {n: v for n, v in session.metadata.items() if session.claim is None or n not in _ADDED}
    shown = shown_invoice(session)
    sellers = kept.get("sellers")
    payload = {
        **kept,
        "userId": session.user_id,
        "cart": [_line(item) for item in session.items],
        "sellers": sellers if isinstance(sellers, list) else list(dict.fromkeys(i.shop_id for i in session.items)),
        "totalAmount": plain_number(session.amount),
        _ADDRESS: session.shipping.get(_ADDRESS),
        "coupon": None,
        "invoiceId": shown.id if shown else None,
    }
    for coupon in _coupons(session, kept.get("coupon")):
        payload["coupon"] = coupon
        if means(payload, session):
            return payload
    raise Invalid("the old shop would read another cart or discount out of it")


def means(payload: Mapping[str, Any], session: Session) -> bool:
    """Whether the old shop's JSON is this very session: its user, cart, discount and amount, and no other's invoice."""
    try:
        cart = read_cart(payload)
        discount = discount_for(cart.items, cart.total, cart.coupon)
        user, invoice = (old_text(payload.get(name), name) for name in ("userId", "invoiceId"))
    except Invalid:
        return False
    said = (user, cart.items, cart.total, discount)
    ours = {"", *(attempt.id for attempt in session.asked_about)}
    return said == (session.user_id, session.items, session.amount, session.discount) and invoice in ours


def shown_invoice(session: Session) -> Invoice | None:
    """The invoice the payer has: the one with a QR, else, of a session that came from the old shop, its latest."""
    still_open = (a for a in reversed(session.attempts) if a.state is InvoiceState.OPEN and a.id)
    return session.payable or next(still_open, None)


def plain_number(amount: Mongo) -> int | float:
    """Tugrik as the old shop wrote them: 47000, and 59.99 where it has to be."""
    whole, rest = divmod(amount, 100)
    return amount / 100 if rest else whole


def _refuse_unsayable(session: Session) -> None:
    if not session.items:
        raise Invalid("it has no items, of which the old shop could make orders")
    if not session.user_id:
        raise Invalid("it has no user")
    if session.currency != "MNT":
        raise Invalid("it is not in MNT")
    if session.shipping_amount:
        raise Invalid("its delivery is paid for, which the old shop knows nothing of")
    address = session.shipping.get(_ADDRESS)
    if session.shipping.keys() - {_ADDRESS} or not isinstance(address, str | None):
        raise Invalid("its delivery is more than a shippingAddressId")
    if session.discount and session.discount.amount and session.discount.product_id is None:
        raise Invalid("its discount is on no product")


def _line(item: Item) -> dict[str, Any]:
    return {
        "productId": item.product_id,
        "shopId": item.shop_id,
        "quantity": item.quantity,
        "sale_price": plain_number(item.unit_price),
        "title": item.title,
        "selectedOptions": item.options,
    }


def _coupons(session: Session, kept: object) -> Iterator[Mapping[str, Any] | None]:
    """The coupon as the shop sent it, else one that says what our discount says, else none."""
    if isinstance(kept, Mapping):
        yield kept
    if session.discount:
        yield {
            "code": session.discount.code,
            "discountedProductId": session.discount.product_id,
            "discountPercent": 0,
            "discountAmount": plain_number(session.discount.amount),
        }
    yield None
