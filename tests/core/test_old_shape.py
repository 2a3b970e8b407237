"""The old shop's shape, written: what importing reads out of it is the session it was written from."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.stories import NOON, Story, opened
from tests.core.test_moving import taken

from tulbur.core.moving import OldSession, OldStatus, imported
from tulbur.core.old_shape import means, old_payload
from tulbur.core.orders import Discount, Item
from tulbur.core.session import Session
from tulbur.errors import Invalid
from tulbur.importer.rows import OrderRows, redis_session
from tulbur.payments import Policy
from tulbur.web.seed_intake import internal_seed

NO_ORDERS = OrderRows({})


def session_of(**fields: Any) -> Session:
    return Story(opened(**fields)).invoiced().session


def read(session: Session) -> OldSession:
    value = json.dumps(old_payload(session), ensure_ascii=False).encode()
    return redis_session(session.id, b" " + value, now=NOON, ttl_seconds=60, processed=[], orders=NO_ORDERS)


def judge(session: Session) -> None:
    again = imported(read(session), NOON)
    assert again.claim is not None
    assert again.claim.review == ""
    assert (again.id, again.user_id, again.amount) == (session.id, session.user_id, session.amount)
    assert (again.items, again.discount, again.shipping) == (session.items, session.discount, dict(session.shipping))
    assert again.attempts[0].id == session.attempts[-1].id


SENT: dict[str, Any] = {
    "userId": "u1",
    "cart": [
        {"productId": "p1", "shopId": "s1", "quantity": 2, "sale_price": 15000, "title": "Цай"},
        {"id": "p2", "shopId": "s2", "quantity": 1, "sale_price": 20000.5, "selectedOptions": {"өнгө": "цэнхэр"}},
    ],
    "sellers": [{"shopId": "s1", "sellerId": "x1"}],
    "totalAmount": 47000,
    "shippingAddressId": "a1",
    "coupon": {"code": "SPRING", "discountedProductId": "p1", "discountPercent": 10, "more": [1, None]},
    "browser": {"locale": "mn", "width": 3.5},
}
LINES = [
    {"productId": "p1", "shopId": "s1", "quantity": 2, "sale_price": 15000, "title": "Цай", "selectedOptions": {}},
    {
        "productId": "p2",
        "shopId": "s2",
        "quantity": 1,
        "sale_price": 20000,
        "title": "",
        "selectedOptions": {"өнгө": "цэнхэр"},
    },
]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"coupon": None, "totalAmount": 50000},
        {"totalAmount": 50000},
        {"coupon": {"code": "SPRING", "discountedProductId": "p2", "discountAmount": 3000}},
        {"shippingAddressId": None},
    ],
)
def test_what_came_by_the_seed_route_goes_back_field_by_field(changes: dict[str, Any]) -> None:
    sent = {**SENT, **changes}
    sent["cart"] = [SENT["cart"][0], SENT["cart"][1] | {"sale_price": 20000}]
    seed = internal_seed({"sessionData": sent, "sessionId": "S1", "ttlSec": 900})
    asked = seed.open_request(Policy())
    names = ("user_id", "amount", "items", "discount", "shipping", "metadata")
    session = session_of(**{name: getattr(asked, name) for name in names})
    judge(session)
    assert old_payload(session) == {**sent, "cart": LINES, "invoiceId": "inv1"}
    assert '"totalAmount": 47000,' in json.dumps(old_payload(session)) or sent["totalAmount"] == 50000


def test_what_came_from_the_old_shop_goes_back_as_it_was() -> None:
    payload = {**SENT, "totalAmount": 47000.5, "note": "kept"}
    row = OldSession(
        id="S1",
        user_id="u1",
        amount=4_700_050,
        currency="MNT",
        payload=payload,
        status=OldStatus.PENDING,
        invoice_id="inv1",
        created_at=NOON,
        updated_at=NOON,
        ebarimt={"status": "x"},
    )
    session = taken(row, NOON)
    judge(session)
    back = old_payload(session)
    assert {**back, "cart": payload["cart"]} == {**payload, "invoiceId": "inv1"}
    assert [line["sale_price"] for line in back["cart"]] == [15000, 20000.5], "numbers as they were written"
    assert means(json.loads(json.dumps(payload)), session), "the old shop's own key is this session"
    assert not means({**payload, "invoiceId": "another"}, session)
    assert not means({**payload, "userId": "u2"}, session)


TEA = Item(shop_id="a", product_id="p", title="Tea", quantity=1, unit_price=100_00)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"items": ()}, "no items"),
        ({"shipping_amount": 30_00, "amount": 130_00}, "delivery is paid for"),
        ({"shipping": {"name": "Бат", "phone": "99112233"}}, "more than a shippingAddressId"),
        ({"discount": Discount(code="X", amount=10_00), "amount": 90_00}, "discount is on no product"),
        ({"discount": Discount(code="X", amount=1, product_id="p"), "amount": 90_00}, "another cart or discount"),
        ({"currency": "USD"}, "not in MNT"),
        ({"user_id": ""}, "no user"),
        ({"items": (TEA, replace(TEA, quantity=10**9, unit_price=0))}, "another cart or discount"),
    ],
)
def test_what_the_shape_cannot_say_is_refused(fields: dict[str, Any], why: str) -> None:
    session = session_of(**{"items": (TEA,), **fields})
    with pytest.raises(Invalid, match=why):
        old_payload(session)


def test_metadata_never_stands_for_the_checkout() -> None:
    lies = {"cart": [], "userId": "u9", "totalAmount": 1, "invoiceId": "x", "coupon": "FREE", "sellers": "none"}
    session = session_of(items=(TEA,), metadata=lies)
    judge(session)
    assert old_payload(session)["sellers"] == ["a"]
    assert old_payload(session)["coupon"] is None


OPTIONS = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=2
)
CART = st.lists(
    st.builds(
        Item,
        shop_id=st.sampled_from(["a", "b", "ү"]),
        product_id=st.sampled_from(["p", "q", "r"]),
        title=st.text(max_size=10).map(lambda t: t.replace("\0", "")),
        quantity=st.integers(1, 1000),
        unit_price=st.integers(0, 10**9),
        options=OPTIONS.map(
            lambda o: {k.replace("\0", ""): v.replace("\0", "") if isinstance(v, str) else v for k, v in o.items()}
        ),
    ),
    min_size=1,
    max_size=5,
).map(tuple)


@given(
    items=CART,
    off=st.none() | st.integers(0, 10**6),
    code=st.sampled_from(["", "X"]),
    product=st.sampled_from([None, "p", "q"]),
)
def test_a_session_of_any_cart_is_read_back_or_refused(
    items: tuple[Item, ...], off: int | None, code: str, product: str | None
) -> None:
    goods = sum(item.total for item in items)
    discount = None if off is None else Discount(code=code, amount=min(off, goods), product_id=product)
    amount = goods - (discount.amount if discount else 0)
    session = session_of(items=items, discount=discount, amount=amount)
    try:
        old_payload(session)
    except Invalid:
        assert amount <= 0 or discount is not None, "a plain cart can always be said"
        return
    if amount > 0 and not (discount and discount.amount > _line_of(items, product)):
        judge(session)


def _line_of(items: tuple[Item, ...], product: str | None) -> int:
    return sum(item.total for item in items if item.product_id == product)
