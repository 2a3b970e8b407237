from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tulbur.core.money import spread
from tulbur.core.orders import Discount, Item, Order, check_cart, order_id, orders_for
from tulbur.errors import AmountMismatch, Invalid

SHOPS = st.sampled_from(["s1", "s2", "s3", "S1", "s1 ", ""])
PRODUCTS = st.sampled_from(["p1", "p2", "p3"])


def item(shop: str, tugrik: float, *, product: str = "p1", quantity: int = 1) -> Item:
    return Item(shop_id=shop, product_id=product, title="Tea", quantity=quantity, unit_price=round(tugrik * 100))


def ordered(
    *items: Item, amount: float | None = None, off: float = 0, product: str | None = None, shipping: float = 0
) -> tuple[Order, ...]:
    """The orders of a valid cart; its amount follows from the rest unless given."""
    discount = Discount(code="SPRING", amount=round(off * 100), product_id=product) if off else None
    goods = sum(i.total for i in items) - round(off * 100) + round(shipping * 100)
    due = goods if amount is None else round(amount * 100)
    check_cart(amount=due, items=items, discount=discount, shipping_amount=round(shipping * 100))
    return orders_for(
        "S1",
        amount=due,
        currency="MNT",
        items=items,
        discount=discount,
        shipping_amount=round(shipping * 100),
        now=7,
    )


def totals(orders: tuple[Order, ...]) -> dict[str, int]:
    return {order.shop_id: order.total for order in orders}


@st.composite
def carts(draw: st.DrawFn) -> dict[str, object]:
    """Any cart that is valid: its discount fits what it is taken from, shipping rounds the rest to whole tugrik."""
    lines = st.builds(
        Item,
        shop_id=SHOPS,
        product_id=PRODUCTS,
        title=st.just("Tea"),
        quantity=st.integers(1, 9),
        unit_price=st.integers(0, 10**9),
    )
    items = tuple(draw(st.lists(lines, min_size=1, max_size=7)))
    product = draw(st.none() | st.sampled_from([i.product_id for i in items]))
    base = sum(i.total for i in items if product in (None, i.product_id))
    discount = draw(st.none() | st.builds(Discount, code=st.just(""), amount=st.integers(0, base)))
    discount = discount and replace(discount, product_id=product)
    goods = sum(i.total for i in items) - (discount.amount if discount else 0)
    shipping = draw(st.integers(0, 10**6)) * 100 + -goods % 100
    shipping = shipping or (0 if goods else 100)
    return {"amount": goods + shipping, "items": items, "discount": discount, "shipping_amount": shipping}


@given(carts())
def test_the_orders_sum_to_what_the_payer_was_asked(cart: dict[str, object]) -> None:
    check_cart(**cart)
    orders = orders_for("S1", currency="MNT", now=7, **cart)
    items, discount = cart["items"], cart["discount"]
    assert sum(order.total for order in orders) == cart["amount"]
    assert sum(order.discount for order in orders) == (discount.amount if discount else 0)
    assert [order.shop_id for order in orders] == list(dict.fromkeys(i.shop_id for i in items))
    assert [i for order in orders for i in order.items] == sorted(
        items, key=lambda i: [order.shop_id for order in orders].index(i.shop_id)
    )
    for place, order in enumerate(orders):
        goods = sum(i.total for i in order.items)
        assert order.total == goods - order.discount + order.shipping_amount
        assert 0 <= order.discount <= goods
        assert order.shipping_amount == (cart["shipping_amount"] if place == 0 else 0)
        assert (order.currency, order.created_at) == ("MNT", 7)
        if discount and discount.product_id:
            held = sum(i.total for i in order.items if i.product_id == discount.product_id)
            assert order.discount <= held, "taken only from the product it is for"
    assert orders_for("S1", currency="MNT", now=7, **cart) == orders


@given(carts())
def test_a_general_discount_is_spread_by_largest_remainder(cart: dict[str, object]) -> None:
    discount = cart["discount"]
    if not discount or not discount.amount or discount.product_id:
        return
    orders = orders_for("S1", currency="MNT", now=7, **cart)
    goods = [sum(i.total for i in order.items) for order in orders]
    assert [order.discount for order in orders] == spread(discount.amount, goods)


def test_there_is_one_order_for_each_shop_in_the_order_of_the_cart() -> None:
    orders = ordered(item("b", 10), item("a", 5), item("b", 1, quantity=3))
    assert totals(orders) == {"b": 13_00, "a": 5_00}
    assert [order.shop_id for order in orders] == ["b", "a"]
    assert [len(order.items) for order in orders] == [2, 1]


def test_a_discount_without_a_product_favours_the_earliest_of_equal_shops() -> None:
    orders = ordered(item("a", 10), item("b", 10), item("c", 10), off=10)
    assert [order.discount for order in orders] == [334, 333, 333]


def test_a_discount_on_a_product_goes_once_to_the_shop_that_holds_it() -> None:
    orders = ordered(item("a", 10, product="p1"), item("b", 10, product="p2", quantity=3), off=4, product="p2")
    assert totals(orders) == {"a": 10_00, "b": 26_00}


def test_a_discount_on_a_product_two_shops_hold_still_applies_once() -> None:
    orders = ordered(item("a", 10), item("b", 30), off=4, product="p1")
    assert totals(orders) == {"a": 9_00, "b": 27_00}


def test_a_discount_may_make_a_shop_free() -> None:
    orders = ordered(item("a", 10, product="p1"), item("b", 5, product="p2"), off=10, product="p1")
    assert totals(orders) == {"a": 0, "b": 5_00}


def test_shipping_stays_with_the_first_shop() -> None:
    orders = ordered(item("a", 10), item("b", 30), shipping=6)
    assert totals(orders) == {"a": 16_00, "b": 30_00}
    assert [order.shipping_amount for order in orders] == [6_00, 0]


@pytest.mark.parametrize("shipping", [0, 20, 50])
def test_a_cart_without_items_is_one_order_of_no_shop(shipping: int) -> None:
    (order,) = ordered(amount=50, shipping=shipping)
    assert (order.shop_id, order.total, order.discount, order.items) == ("", 50_00, 0, ())


def test_prices_and_discounts_may_have_two_decimals() -> None:
    orders = ordered(item("a", 10.55), item("b", 0.55), off=0.10)
    assert sum(totals(orders).values()) == 11_00


@pytest.mark.parametrize("amount", [0, -100, 1, 99, 100_01, 150])
def test_the_amount_is_whole_tugrik(amount: int) -> None:
    with pytest.raises(Invalid) as refusal:
        check_cart(amount=amount, items=(), discount=None, shipping_amount=0)
    assert type(refusal.value) is Invalid


@pytest.mark.parametrize(
    ("amount", "shipping", "off"),
    [(99, 0, 0), (101, 0, 0), (100, 1, 0), (100, 0, 1), (101, 0, 1), (1, 0, 0), (10**13, 0, 0)],
)
def test_an_amount_that_is_not_the_cart_is_refused(amount: int, shipping: int, off: int) -> None:
    discount = Discount(code="X", amount=off * 100) if off else None
    with pytest.raises(AmountMismatch):
        check_cart(amount=amount * 100, items=[item("a", 100)], discount=discount, shipping_amount=shipping * 100)


def test_shipping_alone_cannot_be_more_than_the_amount() -> None:
    with pytest.raises(AmountMismatch):
        check_cart(amount=100_00, items=(), discount=None, shipping_amount=101_00)


@pytest.mark.parametrize(
    ("items", "discount"),
    [
        ((), Discount(code="X", amount=1)),
        ((item("a", 100),), Discount(code="X", amount=1, product_id="other")),
        ((item("a", 100),), Discount(code="X", amount=100_01)),
        ((item("a", 60, product="p1"), item("b", 40, product="p2")), Discount(code="X", amount=60_01, product_id="p1")),
    ],
)
def test_a_discount_is_taken_from_something(items: tuple[Item, ...], discount: Discount) -> None:
    shipping = 100_00 - sum(i.total for i in items) + discount.amount
    with pytest.raises(Invalid, match="discount"):
        check_cart(amount=100_00, items=items, discount=discount, shipping_amount=shipping)


@pytest.mark.parametrize(
    "cart",
    [
        {"items": [item("a", 200), item("b", -100)], "discount": None, "shipping_amount": 0},
        {"items": [item("a", 200), item("b", 50, quantity=-2)], "discount": None, "shipping_amount": 0},
        {"items": [item("a", 100), item("b", 5, quantity=0)], "discount": None, "shipping_amount": 0},
        {"items": [item("a", 150)], "discount": None, "shipping_amount": -50_00},
        {"items": [], "discount": None, "shipping_amount": -1},
        {"items": [item("a", 90)], "discount": Discount(code="X", amount=-10_00), "shipping_amount": 0},
        {"items": [], "discount": Discount(code="X", amount=-10_00), "shipping_amount": 0},
    ],
)
def test_nothing_in_a_cart_is_negative(cart: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        check_cart(amount=100_00, **cart)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_an_order_id_names_one_session_and_shop(session: str, shop: str, other: str, other_shop: str) -> None:
    assert order_id(session, shop) == order_id(session, shop)
    same = (session, shop) == (other, other_shop)
    assert (order_id(session, shop) == order_id(other, other_shop)) == same


def test_tricky_pairs_have_different_order_ids() -> None:
    pairs = [
        *[("S1", "1"), ("S11", ""), ("S", "11"), ("S1", ""), ("S1:", "1"), ("S1", ":1"), ("1:S1", ""), ("", "S1:1")],
        *[("s1", "1"), ("S1 ", "1"), ("S1", "1 "), ("é", ""), ("e\u0301", ""), ("Ш", "1"), ("", "2:S1:1"), ("", "")],
    ]
    ids = {order_id(session, shop) for session, shop in pairs}
    assert len(ids) == len(pairs)
    assert all(len(name) <= 32 and name.isascii() for name in ids)


def test_an_order_keeps_its_id_from_release_to_release() -> None:
    assert order_id("S1", "shop") == "ord_a810f16c92aa34223ba87612e539"
