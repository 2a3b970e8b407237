"""From a cart to one order per shop; the orders always sum to what the payer was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tulbur.core.later import Later
from tulbur.core.money import Mongo, is_whole_tugrik, spread
from tulbur.errors import AmountMismatch, Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of the cart; `unit_price` in möngö."""

    shop_id: str
    product_id: str
    title: str
    quantity: int
    unit_price: Mongo
    options: Mapping[str, Any] = field(default_factory=dict)
    later: Later = ()

    @property
    def total(self) -> Mongo:
        return self.quantity * self.unit_price


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """An amount off; on one product where `product_id` is given, else spread over all shops."""

    code: str
    amount: Mongo
    product_id: str | None = None
    later: Later = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one shop is to deliver; `total` = its items - its share of the discount + its shipping."""

    id: str
    shop_id: str
    total: Mongo
    discount: Mongo
    shipping_amount: Mongo
    currency: str
    items: tuple[Item, ...]
    created_at: int
    later: Later = ()


def check_cart(*, amount: Mongo, items: Sequence[Item], discount: Discount | None, shipping_amount: Mongo) -> None:
    """Refuse a cart whose numbers do not add up.

    Raises:
        Invalid: the amount is not positive whole tugrik, a number is negative, or the discount fits nothing.
        AmountMismatch: amount is not items - discount + shipping.
    """
    if amount <= 0 or not is_whole_tugrik(amount):
        raise Invalid("amount must be whole tugrik, more than zero")
    off = discount.amount if discount else 0
    if min(off, shipping_amount) < 0 or any(item.quantity < 1 or item.unit_price < 0 for item in items):
        raise Invalid("a price, a discount or shipping is zero or more, a quantity one or more")
    if not items:
        if off:
            raise Invalid("a discount needs items to be taken from")
        if shipping_amount > amount:
            raise AmountMismatch("shipping_amount is more than amount")
        return
    base = sum(item.total for item in items if _discounted(item, discount))
    if off > base:
        raise Invalid("the discount is more than what it is taken from")
    goods = sum(item.total for item in items)
    if goods - off + shipping_amount != amount:
        raise AmountMismatch


def _discounted(item: Item, discount: Discount | None) -> bool:
    return discount is None or discount.product_id is None or item.product_id == discount.product_id


def orders_for(
    session_id: str,
    *,
    amount: Mongo,
    currency: str,
    items: Sequence[Item],
    discount: Discount | None,
    shipping_amount: Mongo,
    now: int,
) -> tuple[Order, ...]:
    """One order per shop, in the order in which the shops first appear; totals sum to `amount`.

    Shipping is a line of its own, kept by the first shop. A cart without items is one order for shop "".
    """
    by_shop: dict[str, list[Item]] = {}
    for item in items:
        by_shop.setdefault(item.shop_id, []).append(item)
    if not by_shop:
        by_shop[""] = []
    shops = list(by_shop)
    goods = [sum(item.total for item in by_shop[shop]) for shop in shops]
    offs = _discount_shares(by_shop, discount)
    shipping = [shipping_amount, *([0] * (len(shops) - 1))]
    totals = [g - o + s for g, o, s in zip(goods, offs, shipping, strict=True)] if items else [amount]
    return tuple(
        Order(
            id=order_id(session_id, shop),
            shop_id=shop,
            total=total,
            discount=off,
            shipping_amount=ship,
            currency=currency,
            items=tuple(by_shop[shop]),
            created_at=now,
        )
        for shop, total, off, ship in zip(shops, totals, offs, shipping, strict=True)
    )


def _discount_shares(by_shop: Mapping[str, Sequence[Item]], discount: Discount | None) -> list[Mongo]:
    """A product's discount goes to the lines that hold it, in proportion; any other to every shop."""
    if discount is None or discount.amount == 0:
        return [0] * len(by_shop)
    weights = [sum(item.total for item in items if _discounted(item, discount)) for items in by_shop.values()]
    return spread(discount.amount, weights)


def order_id(session_id: str, shop_id: str) -> str:
    """Derived, so that two processes that race to order the same session name the same order."""
    digest = sha256(f"{len(session_id)}:{session_id}:{shop_id}".encode()).hexdigest()
    return f"ord_{digest[:28]}"
