"""Whether the orders the old shop made are all of a cart's.

They are told by shop, and under "" where the shop is not known, ids between commas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from tulbur.core.money import Mongo
from tulbur.core.orders import Item, Order, orders_for
from tulbur.core.session import InvoiceState, Micros, Session, Status
from tulbur.core.values import replace

_STRANGE: Final = "the old shop made orders for shops that are not in the cart"
_FEWER: Final = "the old shop made fewer orders than the cart has shops, and does not say for which"


def is_complete(orders: Mapping[str, str], items: Sequence[Item]) -> bool:
    """Whether there is an order for every shop of the cart, as far as they are not `unclear`."""
    shops = _shops(items)
    return shops <= orders.keys() or ("" in orders and "" not in shops)


def unclear(orders: Mapping[str, str], items: Sequence[Item]) -> str:
    """Why the orders cannot be set against the cart's shops; "" when they can."""
    shops = _shops(items)
    if shops <= orders.keys():
        return ""
    if "" in orders and "" not in shops:
        return _FEWER if sum(len(ids.split(",")) for ids in orders.values()) < len(shops) else ""
    return _STRANGE if orders.keys() - shops else ""


def totals_of(session: Session) -> Mapping[str, Mongo]:
    """What each shop's order of this session comes to."""
    return {order.shop_id: order.total for order in _orders_of(session, session.created_at)}


def paid_before(session: Session, paid_at: Micros) -> Session:
    """The old shop had made all its orders: they are rows of ours, and nothing is left to do."""
    attempts = tuple(replace(a, state=InvoiceState.PAID) if a.id else a for a in session.attempts)
    orders = _orders_of(session, paid_at)
    return replace(session, status=Status.PAID, orders=orders, paid_at=paid_at, attempts=attempts)


def _orders_of(session: Session, now: Micros) -> tuple[Order, ...]:
    return orders_for(
        session.id,
        amount=session.amount,
        currency=session.currency,
        items=session.items,
        discount=session.discount,
        shipping_amount=session.shipping_amount,
        now=now,
    )


def _shops(items: Sequence[Item]) -> set[str]:
    return {item.shop_id for item in items} or {""}
