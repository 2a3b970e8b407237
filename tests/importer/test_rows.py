"""Whatever a row holds, it is a session or a sentence: never another error, and never a value of the row in it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from tulbur.core.codec import decode, encode
from tulbur.core.moving import OldStatus, imported
from tulbur.core.old_cart import old_money
from tulbur.errors import Invalid
from tulbur.importer.rows import MOST_PAYLOAD, OrderRows, micros, old_session, order_ids, redis_session

NOON = 1_700_000_000_000_000
ROW: dict[str, Any] = {
    "_id": ObjectId("aa" * 12),
    "sessionId": "s1",
    "userId": ObjectId("bb" * 12),
    "amount": 59.99 * 3,
    "payload": {"cart": [{"id": "p", "shopId": "a", "quantity": 3, "sale_price": 59.99}], "totalAmount": 59.99 * 3},
    "createdAt": datetime(2026, 1, 1, 12),  # noqa: DTZ001 - as a driver gives it
    "updatedAt": datetime(2026, 1, 1, 20, tzinfo=timezone(timedelta(hours=8))),
}
NOTHING = OrderRows({})

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["sessionId", "userId", "amount", "payload", "status", "invoiceId", "expiresAt", "createdAt", "currency"]
CART = ["cart", "coupon", "totalAmount", "shippingAddressId", "sellers"]
LINE = ["id", "shopId", "quantity", "sale_price", "title", "selectedOptions"]


def test_an_ordinary_row() -> None:
    old = old_session(ROW, [], NOTHING)
    assert (old.id, old.user_id, old.amount, old.currency) == ("s1", "bb" * 12, 17997, "MNT")
    assert (old.status, old.invoice_id, old.expires_at) == (OldStatus.PENDING, "", None)
    assert old.created_at == old.updated_at == 1_767_268_800_000_000
    session = imported(old, NOON)
    assert session.claim is not None
    assert (session.claim.review, session.expires_at - session.created_at) == ("", 600_000_000)


@pytest.mark.parametrize(
    ("value", "mongo"),
    [
        (1000, 1000_00),
        (0.1 + 0.2, 30),
        (59.99 * 3, 17997),
        (1e15 / 100, 1e15),
        ("1999.50", 1999_50),
        (Decimal("12.34"), 12_34),
        (1e-7, 0),
    ],
)
def test_floats_become_money_by_their_shortest_text(value: object, mongo: int) -> None:
    assert old_money(value, "amount") == mongo


@pytest.mark.parametrize(
    "value", [None, True, -1, "x", "", 0.001, 12.345, float("nan"), float("inf"), 1e300, [1], "9" * 99]
)
def test_what_is_no_money_is_refused(value: object) -> None:
    with pytest.raises(Invalid, match="amount"):
        old_money(value, "amount")


def test_a_long_title_is_cut_and_costs_no_session_its_cart() -> None:
    line = {**ROW["payload"]["cart"][0], "title": "Ц" * 900, "selectedOptions": {"a": [1, None]}}
    session = imported(old_session({**ROW, "payload": {**ROW["payload"], "cart": [line]}}, [], NOTHING), NOON)
    assert session.claim is not None
    assert (session.claim.review, len(session.items[0].title), session.items[0].options) == ("", 300, {"a": [1, None]})


def test_null_missing_and_empty_are_the_same() -> None:
    names = ("invoiceId", "paymentId", "status", "currency", "expiresAt", "ebarimtStatus", "callbackToken")
    same = [old_session({**ROW, **dict.fromkeys(names, value)}, [], NOTHING) for value in (None, "")]
    assert same == [old_session(ROW, [], NOTHING)] * 2


def test_the_payload_may_be_text_and_its_text_too() -> None:
    text = json.dumps(ROW["payload"])
    for payload in (text, json.dumps(text)):
        assert imported(old_session({**ROW, "payload": payload}, [], NOTHING), NOON).items[0].unit_price == 5999


def test_a_payload_without_an_end_is_for_a_person() -> None:
    payload = {**ROW["payload"], "notes": "x" * MOST_PAYLOAD}
    for kept in (payload, json.dumps(payload)):
        claim = imported(old_session({**ROW, "payload": kept}, [], NOTHING), NOON).claim
        assert claim is not None
        assert claim.review == "the cart is not a list of lines"


def test_the_token_of_its_callbacks_is_kept_as_a_digest_alone() -> None:
    old = old_session({**ROW, "callbackToken": "very-secret"}, [], NOTHING)
    assert len(old.token_digest) == 64
    assert b"very-secret" not in encode(imported(old, NOON))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("2026-01-01T12:00:00.5+00:00", 1_767_268_800_500_000),
        (1_767_268_800_000, 1_767_268_800_000_000),
    ],
)
def test_times(value: object, expected: int | None) -> None:
    assert micros(value, "createdAt") == expected


def test_orders_that_exist_count_and_others_do_not() -> None:
    processed = [{"orderIds": ["o1", "o2"]}, {"orderIds": '["o3"]'}, {"orderIds": [ObjectId("cc" * 12)]}]
    assert order_ids(processed) == ["o1", "o2", "o3", "cc" * 12]
    orders = OrderRows({"o1": {"id": "o1", "shopId": ObjectId("dd" * 12)}})
    assert old_session(ROW, processed, orders).orders == {"dd" * 12: "o1"}
    assert list(old_session(ROW, processed, OrderRows({}, readable=False)).orders) == [""]


def test_a_redis_key_is_a_session_that_ends_with_it() -> None:
    value = json.dumps({**ROW["payload"], "userId": "u"}).encode()
    old = redis_session("s1", value, now=NOON, ttl_seconds=100, processed=[], orders=NOTHING)
    assert (old.status, old.source, old.expires_at) == (OldStatus.PENDING, "redis", NOON + 100_000_000)
    later = redis_session("s1", value, now=NOON + 1, ttl_seconds=50, processed=[], orders=NOTHING)
    assert later.digest == old.digest, "the time that passes is no change"
    with pytest.raises(Invalid):
        redis_session("s1", b'{"other": 1}', now=NOON, ttl_seconds=None, processed=[], orders=NOTHING)


@given(
    row=st.dictionaries(st.sampled_from(NAMES), JSON | st.datetimes() | st.just(Decimal128("NaN")), max_size=4),
    payload=st.dictionaries(st.sampled_from(CART), JSON, max_size=3),
    line=st.dictionaries(st.sampled_from(LINE), JSON, max_size=3),
    processed=st.lists(st.dictionaries(st.sampled_from(["orderIds", "processedAt"]), JSON, max_size=2), max_size=2),
)
def test_any_row_is_a_session_or_a_sentence(
    row: dict[str, Any], payload: dict[str, Any], line: dict[str, Any], processed: list[dict[str, Any]]
) -> None:
    cart = [{**ROW["payload"]["cart"][0], **line}]
    whole = {**ROW, "payload": {**ROW["payload"], "cart": cart, **payload}, **row}
    try:
        old = old_session(whole, processed, NOTHING)
    except Invalid:
        return
    session = imported(old, NOON)
    assert decode(encode(session), 0).claim == session.claim
    assert old.digest == old_session(whole, processed, NOTHING).digest
