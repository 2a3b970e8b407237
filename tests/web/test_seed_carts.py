"""What the old shop's carts and coupons may be, and that the payer is asked what the orders come to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.web.seed_world import (
    CHECKOUT,
    GATEWAY,
    INTERNAL_SEED,
    SEED,
    Shop,
    assert_refused,
    bearer,
)

pytestmark = pytest.mark.anyio


# --- bodies ----------------------------------------------------------------------------------------------------------


def with_item(**changes: Any) -> dict[str, Any]:
    item = {"productId": "p1", "shopId": "s1", "quantity": 1, "sale_price": 50000} | changes
    return {"cart": [{name: value for name, value in item.items() if value != "gone"}]}


@pytest.mark.parametrize(
    "change",
    [
        {"cart": []},
        {"cart": None},
        {"cart": {}},
        {"cart": [None]},
        {"cart": ["p1"]},
        {"sellers": None},
        {"sellers": "s1"},
        {"totalAmount": "50000"},
        {"totalAmount": True},
        {"totalAmount": None},
        {"totalAmount": -50000},
        {"totalAmount": 0},
        {"totalAmount": 1e300},
        {"coupon": "SPRING"},
        {"coupon": [1]},
        {"shippingAddressId": {"a": 1}},
        {"shippingAddressId": "a" * 101},
        {"note": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}},
        {"note": "\x00"},
        with_item(productId="gone"),
        with_item(productId=None),
        with_item(productId={"$oid": "1"}),
        with_item(productId=True),
        with_item(productId="\x00"),
        with_item(shopId="gone"),
        with_item(shopId=""),
        with_item(quantity="gone"),
        with_item(quantity=0),
        with_item(quantity=-1, sale_price=-50000),
        with_item(quantity=1.5),
        with_item(quantity="1"),
        with_item(quantity=True),
        with_item(quantity=10**9),
        with_item(sale_price="gone"),
        with_item(sale_price=-50000),
        with_item(sale_price="NaN"),
        with_item(sale_price="5e4"),
        with_item(sale_price=None),
        with_item(sale_price=50000.001),
        with_item(sale_price=10**20),
        with_item(selectedOptions=[1]),
    ],
)
async def test_what_cannot_be_a_checkout_is_refused(shop: Shop, change: dict[str, Any]) -> None:
    assert_refused(await shop.seed(**change), 400)
    assert_refused(await shop.seed_inside(**change), 400)
    assert shop.api.qpay.invoices == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"cart": NaN}',
        b"[" * 60_000,
        b'{"totalAmount": 1, "totalAmount": 2}',
        b'{"sessionData": null}',
        b'{"sessionData": {"userId": 7}}',
    ],
)
async def test_what_is_no_json_of_ours_is_refused(shop: Shop, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    assert_refused(await shop.outside.post(SEED, content=body, headers=bearer() | headers), 400)
    assert_refused(await shop.inside.post(INTERNAL_SEED, content=body, headers=GATEWAY | headers), 400)


@pytest.mark.parametrize("user_id", ["", None, 7, "x" * 101, "\x00", ["u1"]])
async def test_the_gateway_must_name_its_user(shop: Shop, user_id: Any) -> None:
    assert_refused(await shop.seed_inside(userId=user_id), 400)


@pytest.mark.parametrize("ttl", [0, -1, 1.5, "15", True, 86_401, 10**30])
async def test_a_ttl_that_is_none_is_refused(shop: Shop, ttl: Any) -> None:
    assert_refused(await shop.seed_inside(top={"ttlSec": ttl}), 400, "ttlSec")


async def test_a_huge_cart_is_refused(shop: Shop) -> None:
    line = {"productId": "p", "shopId": "s", "quantity": 1, "sale_price": 1}
    assert (await shop.opened(cart=[line] * 200, totalAmount=200))["success"] is True
    assert_refused(await shop.seed(cart=[line] * 201, totalAmount=201), 400)
    assert (await shop.seed(cart=[line | {"title": "x" * 500}] * 200, totalAmount=200)).status_code == 413


async def test_old_names_and_numbers_of_an_item_are_taken(shop: Shop) -> None:
    cart = [
        {"_id": "p1", "shopId": 5, "quantity": 2.0, "sale_price": "10000.50", "title": None, "images": [{"url": "x"}]},
        {"productId": "", "id": 77, "_id": "no", "shopId": "s", "quantity": 1, "sale_price": 1, "title": "т" * 400},
    ]
    stored = await shop.stored((await shop.opened(cart=cart, totalAmount=20002))["sessionId"])
    first, second = stored.items
    assert (first.product_id, first.shop_id, first.quantity, first.unit_price) == ("p1", "5", 2, 1_000_050)
    assert (second.product_id, len(second.title)) == ("77", 300)


async def test_amounts_are_read_by_their_text(shop: Shop) -> None:
    cart = '[{"productId": "p", "shopId": "s", "quantity": 10, "sale_price": 0.1}]'
    body = f'{{"cart": {cart}, "sellers": [], "totalAmount": 1.0}}'
    headers = bearer() | {"Content-Type": "application/json"}
    answer = await shop.outside.post(SEED, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (await shop.stored(answer.json()["sessionId"])).amount == 100
    assert_refused(await shop.outside.post(SEED, content=body.replace("1.0", "1.00000001"), headers=headers), 400)


# --- the total and the coupon ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", ["49999.99", "50000.01", "49999", "50001", "1", "50000.001"])
async def test_a_total_that_is_off_is_refused(shop: Shop, total: str) -> None:
    body = json.dumps(CHECKOUT).replace('"totalAmount": 50000', f'"totalAmount": {total}')
    headers = bearer() | {"Content-Type": "application/json"}
    assert_refused(await shop.outside.post(SEED, content=body, headers=headers), 400)
    assert shop.api.qpay.invoices == []


COUPON = {"code": "SPRING", "discountedProductId": "p1", "discountPercent": 10, "discountAmount": "3000.00"}


@pytest.mark.parametrize(
    ("coupon", "total", "totals"),
    [
        (COUPON, 47000, [27000, 20000]),
        (COUPON, 50000, [30000, 20000]),
        (COUPON | {"discountPercent": 0, "discountAmount": 5000}, 45000, [25000, 20000]),
        (COUPON | {"discountPercent": None, "discountAmount": "5000"}, 45000, [25000, 20000]),
        (COUPON | {"discountedProductId": "p2", "discountPercent": 100}, 30000, [30000, 0]),
        (COUPON | {"discountedProductId": "none-of-the-cart"}, 50000, [30000, 20000]),
        (COUPON | {"discountedProductId": None}, 50000, [30000, 20000]),
        ({"code": "SPRING"}, 50000, [30000, 20000]),
        ({}, 50000, [30000, 20000]),
    ],
)
async def test_a_coupon_is_applied_once_to_the_shop_that_holds_its_product(
    shop: Shop, coupon: dict[str, Any], total: int, totals: list[int]
) -> None:
    session_id = (await shop.opened(coupon=coupon, totalAmount=total))["sessionId"]
    shop.api.qpay.pay("inv1", tugrik=total)
    assert (await shop.hook(session_id)).json()["processed"] is True
    stored = await shop.stored(session_id)
    assert [order.total // 100 for order in stored.orders] == totals
    assert sum(totals) == total
    if coupon.get("code"):
        assert stored.discount is not None
        assert stored.discount.code == "SPRING"
    else:
        assert stored.discount is None


async def test_a_percentage_is_of_one_line_only(shop: Shop) -> None:
    line = {"productId": "p1", "shopId": "s1", "quantity": 1, "sale_price": 10000}
    cart = [line, line | {"shopId": "s2"}, line | {"selectedOptions": {"size": "L"}}]
    coupon = {"code": "HALF", "discountedProductId": "p1", "discountPercent": 50}
    assert_refused(await shop.seed(cart=cart, totalAmount=15000, coupon=coupon), 400)
    assert_refused(await shop.seed(cart=cart, totalAmount=20000, coupon=coupon), 400)
    opened = await shop.opened(cart=cart, totalAmount=25000, coupon=coupon)
    assert (await shop.stored(opened["sessionId"])).amount == 2_500_000


@pytest.mark.parametrize(
    ("coupon", "total"),
    [
        (COUPON, 46999),
        (COUPON | {"discountedProductId": "p2"}, 47000),
        (COUPON | {"discountedProductId": "none-of-the-cart"}, 47000),
        (COUPON | {"discountedProductId": None}, 47000),
        (COUPON | {"discountPercent": 0, "discountAmount": 30001}, 19999),
        (COUPON | {"discountPercent": 0, "discountAmount": 50000}, 0),
        (COUPON | {"discountPercent": 0, "discountAmount": -1000}, 51000),
        (COUPON | {"discountPercent": 0, "discountAmount": "NaN"}, 50000),
        (COUPON | {"discountPercent": 0, "discountAmount": "Infinity"}, 50000),
        (COUPON | {"discountPercent": 0, "discountAmount": True}, 50000),
        (COUPON | {"discountPercent": -10}, 53000),
        (COUPON | {"discountPercent": 101}, 19700),
        (COUPON | {"discountPercent": "NaN"}, 50000),
        (COUPON | {"discountPercent": "10%"}, 47000),
        (COUPON | {"discountPercent": 1e-5}, 50000),
        (COUPON | {"discountPercent": [10]}, 47000),
        (COUPON | {"code": 7}, 47000),
        (COUPON | {"code": "x" * 101}, 47000),
        (COUPON | {"discountedProductId": {"$ne": ""}}, 47000),
    ],
)
async def test_coupon_tricks_are_refused(shop: Shop, coupon: dict[str, Any], total: int) -> None:
    assert_refused(await shop.seed(coupon=coupon, totalAmount=total), 400)
    assert shop.api.qpay.invoices == []


async def test_a_cart_beyond_all_money_is_refused(shop: Shop) -> None:
    line = {"productId": "p", "shopId": "s", "quantity": 1_000_000, "sale_price": 10**12}
    cart = [line, line | {"productId": "q", "quantity": 1, "sale_price": 50000}]
    coupon = {"code": "ALL", "discountedProductId": "p", "discountPercent": 100}
    assert_refused(await shop.seed(cart=cart, coupon=coupon), 400)
