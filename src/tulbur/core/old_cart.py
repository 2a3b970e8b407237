"""The old shop's cart and coupon in its own names, and what they mean to us: lines, a discount, a total.

Its numbers were binary floats in JavaScript. They become money by their shortest text, as JavaScript printed them; what
a sum left behind past the sixth decimal is noise and rounds away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Final

from tulbur.core.money import LARGEST, Mongo
from tulbur.core.orders import Discount, Item
from tulbur.errors import AmountMismatch, Invalid

MOST_LINES: Final = 1000
LONGEST_ID: Final = 255
LONGEST_TITLE: Final = 300
MOST_DEPTH: Final = 8

_CENT: Final = Decimal("0.01")
_NOISE: Final = Decimal("0.000001")
_NUMBER_LENGTH: Final = 40
_PRODUCT_NAMES: Final = ("productId", "id", "_id")
_READ: Final = frozenset({"cart", "userId", "sessionId", "totalAmount", "ttlSec", "callbackToken"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OldCoupon:
    """A coupon of the old shop's: a percentage where it has one, else an amount, off one line of one product."""

    code: str = ""
    product_id: str | None = None
    percent: Decimal = Decimal(0)
    amount: Mongo = 0

    def off(self, items: Sequence[Item]) -> Mongo:
        """What it takes off this cart: once, from the first line that holds its product."""
        line = next((item for item in items if item.product_id == self.product_id), None)
        if line is None:
            return 0
        if self.percent > 0:
            return int((line.total * self.percent / 100).quantize(Decimal(1), ROUND_HALF_UP))
        return self.amount


@dataclass(frozen=True, slots=True, kw_only=True)
class OldCart:
    """A checkout of the old shop's, read. `metadata` is what the shop keeps with it and nobody counts with."""

    items: tuple[Item, ...]
    coupon: OldCoupon | None
    total: Mongo
    shipping: Mapping[str, Any]
    metadata: Mapping[str, Any]


def discount_for(items: Sequence[Item], total: Mongo, coupon: OldCoupon | None) -> Discount | None:
    """The coupon, applied where the total says so, else noted at no money.

    Raises:
        AmountMismatch: the total is neither the cart nor the cart less the coupon.
    """
    goods = sum(item.total for item in items)
    off = coupon.off(items) if coupon else 0
    if total not in (goods - off, goods):
        raise AmountMismatch("totalAmount is neither the sum of the cart nor that less the coupon")
    taken = off if total == goods - off else 0
    if coupon is None or not (taken or coupon.code):
        return None
    return Discount(code=coupon.code, amount=taken, product_id=coupon.product_id)


def read_cart(payload: Mapping[str, Any]) -> OldCart:
    """Read what the old shop kept of a checkout.

    Raises:
        Invalid: it is not a cart; the sentence repeats nothing of it.
    """
    lines = payload.get("cart")
    if not isinstance(lines, list | tuple) or not 0 < len(lines) <= MOST_LINES:
        raise Invalid("the cart is not a list of lines")
    address = old_text(payload.get("shippingAddressId"), "shippingAddressId")
    return OldCart(
        items=tuple(_item(line) for line in lines),
        coupon=_coupon(payload.get("coupon")),
        total=old_money(payload.get("totalAmount"), "totalAmount"),
        shipping={"shippingAddressId": address} if address else {},
        metadata={name: _kept(value, MOST_DEPTH) for name, value in payload.items() if name not in _READ},
    )


def old_money(value: object, name: str) -> Mongo:
    """A number of the old shop's as möngö; see the module for what becomes of floats.

    Raises:
        Invalid: not a number, negative, out of range, or with more decimals than money has.
    """
    amount = _decimal(value, name)
    rounded = amount.quantize(_CENT, ROUND_HALF_UP)
    if amount < 0 or abs(rounded - amount) > _NOISE:
        raise Invalid(f"{name} is no amount of money")
    return int(rounded * 100)


def old_text(value: object, name: str, longest: int = LONGEST_ID) -> str:
    """An id or a name; numbers are told in digits, null and missing are "".

    Raises:
        Invalid: something else, too long, or with what a database refuses.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Invalid(f"{name} is not a text")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{name} is not valid Unicode") from None
    if len(text) > longest or "\x00" in text:
        raise Invalid(f"{name} is too long or holds NUL")
    return text


def _item(line: object) -> Item:
    if not isinstance(line, Mapping):
        raise Invalid("a line of the cart is not an object")
    product = next((line[name] for name in _PRODUCT_NAMES if line.get(name) not in (None, "")), None)
    quantity = _decimal(line.get("quantity"), "quantity")
    if quantity != int(quantity) or not 0 < quantity < 10**9:
        raise Invalid("quantity is not a whole number of one or more")
    options = line.get("selectedOptions")
    title = line.get("title")
    return Item(
        shop_id=old_text(line.get("shopId"), "shopId"),
        product_id=old_text(product, "productId"),
        title=old_text(title[:LONGEST_TITLE] if isinstance(title, str) else title, "title", LONGEST_TITLE),
        quantity=int(quantity),
        unit_price=old_money(line.get("sale_price"), "sale_price"),
        options=_kept(options, MOST_DEPTH) if isinstance(options, Mapping) else {},
    )


def _coupon(value: object) -> OldCoupon | None:
    if not isinstance(value, Mapping):
        return None
    percent = _decimal(value.get("discountPercent") or 0, "discountPercent")
    if not 0 <= percent <= 100:
        raise Invalid("discountPercent is not a percentage")
    return OldCoupon(
        code=old_text(value.get("code"), "code"),
        product_id=old_text(value.get("discountedProductId"), "discountedProductId") or None,
        percent=percent,
        amount=old_money(value.get("discountAmount") or 0, "discountAmount"),
    )


def _decimal(value: object, name: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise Invalid(f"{name} is not a number")
    text = repr(value) if isinstance(value, float) else str(value)
    try:
        number = Decimal(text) if len(text) <= _NUMBER_LENGTH else Decimal("NaN")
    except InvalidOperation:
        raise Invalid(f"{name} is not a number") from None
    if not number.is_finite() or abs(number) > LARGEST // 100:
        raise Invalid(f"{name} is not a number, or out of range")
    return number


def _kept(value: object, depth: int) -> Any:  # noqa: ANN401 - a JSON value
    """A JSON value as it will be stored: no NUL, no decimals, nothing without an end."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return value.replace("\x00", "").encode(errors="replace").decode()
        case float() | Decimal():
            return float(value) if Decimal(str(value)).is_finite() else None
        case Mapping() if depth:
            return {str(_kept(str(key), 1)): _kept(item, depth - 1) for key, item in value.items()}
        case list() | tuple() if depth:
            return [_kept(item, depth - 1) for item in value]
    return None
