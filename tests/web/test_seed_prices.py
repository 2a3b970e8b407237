"""What a browser says a cart costs, verified at PRICE_URL; without a clear yes nothing is opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response
from tests.web.seed_world import CHECKOUT, Service, Shop, service
from tests.web.seed_world import shop as make_shop

from tulbur.errors import ShopUnavailable
from tulbur.web.shop_http import ShopHttp

pytestmark = pytest.mark.anyio

PRICES: list[dict[str, Any]] = [
    {"productId": "p1", "shopId": "s1", "sale_price": 15000},
    {"productId": "p2", "shopId": "s2", "sale_price": "20000.00"},
]
COUPON = {"code": "SPRING", "discountedProductId": "p1", "discountPercent": 10}
UUID = "5a3c8b1e-70a1-4f4e-9d0e-0b4f4c9f3a11"


@pytest.fixture
async def prices() -> AsyncIterator[Service]:
    async with service({"prices": PRICES}) as made:
        yield made


@pytest.fixture
async def shop(prices: Service) -> AsyncIterator[Shop]:
    async with make_shop(price_url=prices.url, unverified_prices=False) as made:
        yield made


def assert_refused(shop: Shop, answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["success"] is False
    assert shop.api.qpay.invoices == []


async def test_the_shop_is_asked_about_the_cart_and_never_told_a_price(shop: Shop, prices: Service) -> None:
    assert (await shop.seed(coupon={"code": "X", "discountedProductId": "p9"})).status_code == 200
    assert prices.asked == [
        {
            "userId": "u1",
            "cart": [
                {"productId": "p1", "shopId": "s1", "quantity": 2, "selectedOptions": {}},
                {"productId": "p2", "shopId": "s2", "quantity": 1, "selectedOptions": {"өнгө": "цэнхэр"}},
            ],
            "coupon": {"code": "X", "discountedProductId": "p9"},
        }
    ]


async def test_tampered_prices_are_refused(shop: Shop, prices: Service) -> None:
    cart = [CHECKOUT["cart"][0] | {"sale_price": 0.5}, CHECKOUT["cart"][1]]
    assert_refused(shop, await shop.seed(cart=cart, totalAmount=20001), 400)
    swapped = [
        CHECKOUT["cart"][0] | {"sale_price": 20000, "quantity": 1},
        CHECKOUT["cart"][1] | {"sale_price": 15000, "quantity": 2},
    ]
    assert_refused(shop, await shop.seed(cart=swapped), 400)
    elsewhere = [CHECKOUT["cart"][0] | {"shopId": "s2"}, CHECKOUT["cart"][1]]
    assert_refused(shop, await shop.seed(cart=elsewhere), 400)
    hidden = [CHECKOUT["cart"][0] | {"productId": "cheap", "id": "p1"}, CHECKOUT["cart"][1]]
    prices.answer = {"prices": [PRICES[0] | {"productId": "cheap", "sale_price": 1}, PRICES[1]]}
    assert_refused(shop, await shop.seed(cart=hidden), 400)
    assert prices.asked[-1]["cart"][0]["productId"] == "cheap"


async def test_a_coupon_is_worth_what_the_shop_says(shop: Shop, prices: Service) -> None:
    assert_refused(shop, await shop.seed(coupon=COUPON, totalAmount=47000), 400)
    prices.answer = {"prices": PRICES, "discountAmount": 2999.99}
    assert_refused(shop, await shop.seed(coupon=COUPON, totalAmount=47000), 400)
    prices.answer = {"prices": PRICES, "discountAmount": None}
    assert_refused(shop, await shop.seed(coupon=COUPON, totalAmount=47000), 400)
    prices.answer = {"prices": PRICES, "discountAmount": "3000.00"}
    assert (await shop.seed(coupon=COUPON, totalAmount=47000)).status_code == 200


async def test_a_coupon_that_takes_nothing_needs_no_word_of_the_shops(shop: Shop) -> None:
    assert (await shop.seed(coupon=COUPON)).status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"prices": None},
        {"prices": {}},
        {"prices": []},
        {"prices": PRICES[:1]},
        {"prices": [*PRICES, *PRICES]},
        {"prices": PRICES[::-1]},
        {"prices": [None, None]},
        {"prices": [{}, {}]},
        {"prices": [PRICES[0] | {"sale_price": None}, PRICES[1]]},
        {"prices": [PRICES[0] | {"sale_price": "cheap"}, PRICES[1]]},
        {"prices": [PRICES[0] | {"sale_price": -15000}, PRICES[1]]},
        {"prices": [PRICES[0] | {"sale_price": True}, PRICES[1]]},
        {"prices": [PRICES[0] | {"sale_price": []}, PRICES[1]]},
        b"",
        b"<html>",
        b"NaN",
        b'{"prices": [], "prices": []}',
        b"[" * 100_000,
        b'{"prices": "' + b"x" * 300_000 + b'"}',
    ],
)
async def test_an_answer_that_is_none_opens_nothing(shop: Shop, prices: Service, answer: Any) -> None:
    prices.answer = answer
    response = await shop.seed()
    assert_refused(shop, response, 503)
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, 400), (404, 400), (409, 400), (422, 400), (500, 503), (401, 503), (302, 503), (204, 503)],
)
async def test_a_refusal_opens_nothing(shop: Shop, prices: Service, status: int, expected: int) -> None:
    prices.status = status
    prices.headers = {"Location": prices.url}
    assert_refused(shop, await shop.seed(), expected)
    assert len(prices.asked) == 1


async def test_nobody_there_opens_nothing() -> None:
    async with make_shop(price_url="http://127.0.0.1:1/prices", unverified_prices=True) as shop:
        assert_refused(shop, await shop.seed(), 503)


async def test_a_slow_service_is_waited_for_only_so_long() -> None:
    released = asyncio.Event()

    class Slow(Service):
        async def reply(self, request: Request) -> Response:
            await released.wait()
            return await super().reply(request)

    http = ShopHttp(seconds=0.05)
    async with service({}, Slow) as slow:
        with pytest.raises(ShopUnavailable, match=r"within 0\.05 s"):
            await http.exchange(slow.url, {})
        released.set()
    await http.stop()
    await http.stop()


async def test_the_gateways_prices_are_the_shops_own(shop: Shop, prices: Service) -> None:
    assert (await shop.seed_inside()).status_code == 200
    assert prices.asked == []


async def test_a_repeat_is_not_verified_again(shop: Shop, prices: Service) -> None:
    first = await shop.opened(sessionId=UUID)
    prices.status = 500
    assert await shop.opened(sessionId=UUID) == first
    assert len(prices.asked) == 1
