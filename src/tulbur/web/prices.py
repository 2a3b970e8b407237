"""What the cart costs, by the shop and not by the browser: one question to PRICE_URL, which fails closed.

The question names products, shops, quantities and the coupon; the answer names each line's price in the same order and
what the coupon takes off. `docs/seed-api.md` shows both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tulbur.core.money import Mongo, parse_tugrik
from tulbur.core.orders import Discount, Item
from tulbur.errors import Invalid, ShopUnavailable
from tulbur.web.seed_intake import Seed
from tulbur.web.shop_http import ShopHttp

_REFUSED: Final = frozenset({400, 404, 409, 422})


class Prices:
    """The shop's price list at one address."""

    def __init__(self, url: str, http: ShopHttp) -> None:
        self._url = url
        self._http = http

    async def verify(self, seed: Seed, discount: Discount | None) -> None:
        """Return when the shop names these prices and, where money is taken off, this discount.

        Raises:
            Invalid: it names others, or does not sell this cart.
            ShopUnavailable: it does not answer, or not in the way that was agreed.
        """
        status, answer = await self._http.exchange(self._url, _question(seed))
        if status in _REFUSED:
            raise Invalid("the shop does not sell this cart")
        prices = answer.get("prices") if isinstance(answer, dict) else None
        if status != 200 or not isinstance(prices, list) or len(prices) != len(seed.items):
            raise ShopUnavailable("the shop's price list gave no answer that can be read")
        for item, said in zip(seed.items, prices, strict=True):
            _compare(item, said)
        if discount is not None and discount.amount and discount.amount != _amount(answer, "discountAmount", 0):
            raise Invalid("the coupon is not worth what the cart takes off for it")


def _question(seed: Seed) -> Mapping[str, Any]:
    coupon = seed.coupon
    return {
        "userId": seed.user_id,
        "cart": [
            {
                "productId": item.product_id,
                "shopId": item.shop_id,
                "quantity": item.quantity,
                "selectedOptions": item.options,
            }
            for item in seed.items
        ],
        "coupon": None if coupon is None else {"code": coupon.code, "discountedProductId": coupon.product_id},
    }


def _compare(item: Item, said: object) -> None:
    if not isinstance(said, dict) or said.get("productId") != item.product_id:
        raise ShopUnavailable("the shop's price list answered about another cart")
    if said.get("shopId") != item.shop_id:
        raise Invalid("a product of the cart belongs to another shop")
    if _amount(said, "sale_price") != item.unit_price:
        raise Invalid("a price of the cart is not the shop's price")


def _amount(said: Mapping[str, Any], name: str, default: object = None) -> Mongo:
    value = said.get(name)
    try:
        return parse_tugrik(default if value is None else value)  # type: ignore[arg-type] # it refuses what is no amount
    except Invalid:
        raise ShopUnavailable("the shop's price list named an amount that cannot be read") from None
