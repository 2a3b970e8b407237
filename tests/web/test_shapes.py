"""What a request may hold, and what an answer shows."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.web.api_world import CART, PUBLIC, SECRETS, START
from tests.web.checkout_world import answered, waiting

from tulbur import Session as PublicSession
from tulbur.core import steps
from tulbur.core.session import SECOND, ExceptionName, InvoiceState, Status
from tulbur.errors import Invalid
from tulbur.links import Links
from tulbur.payments import Policy
from tulbur.ports import StoreStats
from tulbur.web.shapes import (
    Session,
    SessionOpen,
    body_digest,
    open_request,
    qr_png,
    session_shape,
    stats_shape,
)

LINKS = Links(PUBLIC, SECRETS)
DEEP: dict[str, Any] = {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1}}}}}}}}

WRONG = [
    ({"user_id": ""}, "user_id"),
    ({"user_id": "u" * 101}, "user_id"),
    ({"user_id": 1}, "user_id"),
    ({"user_id": None}, "user_id"),
    ({"user_id": "a\x00b"}, "user_id"),
    ({"user_id": "\ud800"}, "user_id"),
    ({"amount": None}, "amount"),
    ({"amount": True}, "amount"),
    ({"amount": 50000.0}, "amount"),
    ({"amount": "-1"}, "amount"),
    ({"amount": "1e400"}, "amount"),
    ({"amount": "NaN"}, "amount"),
    ({"amount": Decimal("1E+400")}, "amount"),
    ({"amount": "50000.001"}, "amount"),
    ({"amount": " 50000"}, "amount"),
    ({"amount": "５００００"}, "amount"),
    ({"amount": []}, "amount"),
    ({"items": {}}, "items"),
    ({"items": [CART["items"][0]] * 201}, "items"),
    ({"items": ["x"]}, "items.0"),
    ({"items": [CART["items"][0] | {"quantity": 0}]}, "items.0.quantity"),
    ({"items": [CART["items"][0] | {"quantity": 1_000_001}]}, "items.0.quantity"),
    ({"items": [CART["items"][0] | {"quantity": "2"}]}, "items.0.quantity"),
    ({"items": [CART["items"][0] | {"quantity": True}]}, "items.0.quantity"),
    ({"items": [CART["items"][0] | {"quantity": Decimal("2.0")}]}, "items.0.quantity"),
    ({"items": [CART["items"][0] | {"shop_id": None}]}, "items.0.shop_id"),
    ({"items": [CART["items"][0] | {"shop_id": "s" * 101}]}, "items.0.shop_id"),
    ({"items": [CART["items"][0] | {"product_id": "p" * 201}]}, "items.0.product_id"),
    ({"items": [CART["items"][0] | {"title": "t" * 301}]}, "items.0.title"),
    ({"items": [CART["items"][0] | {"price": 1}]}, "items.0.price"),
    ({"items": [CART["items"][0] | {"options": {"x": "\x00"}}]}, "items.0.options"),
    ({"discount": {"code": "A", "amount": "-1"}}, "discount.amount"),
    ({"discount": {"code": "A"}}, "discount.amount"),
    ({"discount": []}, "discount"),
    ({"shipping": []}, "shipping"),
    ({"shipping": None}, "shipping"),
    ({"metadata": {"\ud800": 1}}, "metadata"),
    ({"metadata": {"a": "\udfff"}}, "metadata"),
    ({"metadata": {"a": ["\x00"]}}, "metadata"),
    ({"metadata": {"too": DEEP}}, "metadata"),
    ({"metadata": {"n": Decimal("1e400")}}, "metadata"),
    ({"metadata": {"n": float("nan")}}, "metadata"),
    ({"metadata": {"n": 2**63}}, "metadata"),
    ({"metadata": {"n": object()}}, "metadata"),
    ({"metadata": {1: 1}}, "metadata"),
    ({"description": "d" * 256}, "description"),
    ({"expires_in": 0}, "expires_in"),
    ({"expires_in": 2_592_001}, "expires_in"),
    ({"expires_in": "60"}, "expires_in"),
    ({"cache_seconds": 86_401}, "cache_seconds"),
    ({"cache_seconds": 1.5}, "cache_seconds"),
    ({"return_url": "javascript:alert(1)"}, "return_url"),
    ({"return_url": "//shop.mn"}, "return_url"),
    ({"return_url": "https://"}, "return_url"),
    ({"return_url": "https://shop.mn/ x"}, "return_url"),
    ({"return_url": "https://shop.mn/\n"}, "return_url"),
    ({"return_url": "https://shop.mn@evil.mn/"}, "return_url"),
    ({"return_url": "https://[evil"}, "return_url"),
    ({"return_url": "https://shop.mn:99999/"}, "return_url"),
    ({"return_url": "https://shop.mn/" + "x" * 2000}, "return_url"),
    ({"currency": "USD"}, "currency"),
    ({"<script>": 1}, "?"),
    ({"x" * 65: 1}, "?"),
]


@pytest.mark.parametrize(("changes", "field"), WRONG, ids=[f"{n}-{field}" for n, (_, field) in enumerate(WRONG)])
def test_a_wrong_value_is_named_by_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        SessionOpen.parse(CART | changes)
    assert [name for name, _ in caught.value.fields] == [field]
    assert caught.value.message.isascii()


@pytest.mark.parametrize("field", sorted(SessionOpen.model_fields))
def test_a_wrong_value_is_never_repeated(field: str) -> None:
    secret = "hunter2\x00hunter2"
    for value in (secret, [secret], {"secret": secret, secret: 1}, {secret: {secret: secret}}):
        with pytest.raises(Invalid) as caught:
            SessionOpen.parse(CART | {field: value})
        assert "hunter2" not in caught.value.message + str(caught.value.fields)


@pytest.mark.parametrize("name", ["user_id", "amount"])
def test_what_every_session_has_cannot_be_left_out(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        SessionOpen.parse({key: value for key, value in CART.items() if key != name})
    assert caught.value.fields == ((name, "field required"),)


@pytest.mark.parametrize("body", [None, [], "x", 1])
def test_only_an_object_is_a_body(body: object) -> None:
    with pytest.raises(Invalid):
        SessionOpen.parse(body)


def test_at_most_twenty_wrong_values_are_named() -> None:
    with pytest.raises(Invalid) as caught:
        SessionOpen.parse({f"x{n}": 1 for n in range(1000)})
    assert len(caught.value.fields) == 20


@pytest.mark.parametrize("amount", ["50000", "50000.00", 50000, Decimal(50000), Decimal("5e4"), "50000.0"])
def test_however_an_amount_is_written_it_is_the_same_body(amount: object) -> None:
    body = SessionOpen.parse(CART | {"amount": amount})
    assert str(body.amount) == "50000.00"
    assert body_digest(body) == body_digest(SessionOpen.parse(CART))


def test_a_value_that_equals_its_default_is_the_same_body() -> None:
    plain = SessionOpen.parse(CART)
    spelled = SessionOpen.parse(CART | {"shipping": {}, "discount": None, "description": "", "shipping_amount": "0.00"})
    assert body_digest(spelled) == body_digest(plain)
    assert body_digest(SessionOpen.parse(CART | {"metadata": {"a": 1}})) != body_digest(plain)
    assert body_digest(SessionOpen.parse(CART | {"expires_in": 1800})) != body_digest(plain)


def test_a_request_in_full() -> None:
    body = SessionOpen.parse(
        CART
        | {
            "amount": 49_500,
            "discount": {"code": "SPRING", "amount": "1000.50", "product_id": "p1"},
            "shipping": {"city": "Улаанбаатар", "floor": Decimal("2.5")},
            "shipping_amount": Decimal("500.50"),
            "metadata": {"deep": DEEP["a"]},
            "description": "Захиалга 7",
            "expires_in": 60,
            "cache_seconds": 5,
            "return_url": "https://shop.mn/баярлалаа?order=7",
        }
    )
    policy = Policy(session_expiry_seconds=1, session_ttl_seconds=2)
    request = open_request(body, scope="shop", idempotency_key="k", digest="d", policy=policy)
    assert (request.amount, request.shipping_amount) == (4_950_000, 50_050)
    assert (request.expires_in, request.cache_seconds) == (60, 5)
    assert (request.scope, request.idempotency_key, request.body_digest) == ("shop", "k", "d")
    assert request.discount is not None
    assert (request.discount.amount, request.discount.product_id) == (100_050, "p1")
    assert [item.unit_price for item in request.items] == [1_500_000, 2_000_000]
    assert json.loads(json.dumps(request.shipping)) == {"city": "Улаанбаатар", "floor": 2.5}


def test_the_policy_fills_in_what_is_left_open() -> None:
    policy = Policy(session_expiry_seconds=7, session_ttl_seconds=8)
    request = open_request(SessionOpen.parse(CART), scope="", idempotency_key=None, digest="", policy=policy)
    assert (request.expires_in, request.cache_seconds) == (7, 8)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_in_python_money_is_decimal_and_times_are_aware() -> None:
    shape = session_shape(answered(waiting(), 50_000), LINKS)
    assert isinstance(shape, PublicSession)
    assert shape.status is Status.PAID
    assert shape.amount == Decimal(50000)
    assert shape.received == shape.payments[0].ordered == sum(order.total for order in shape.orders)
    assert isinstance(shape.paid_at, datetime)
    assert shape.paid_at.tzinfo is UTC


def test_in_json_money_is_text_and_times_are_utc() -> None:
    session = replace(waiting(), created_at=START + 123_456)
    told = json.loads(session_shape(session, LINKS).model_dump_json())
    assert told["amount"] == "50000.00"
    assert told["created_at"] == "2026-09-21T14:13:20.123456Z"
    assert told["expires_at"] == "2026-09-21T14:43:20Z"
    assert Session.model_validate(told) == session_shape(session, LINKS)


def test_exceptions_are_sorted() -> None:
    names = frozenset({ExceptionName.UNDERPAID, ExceptionName.LATE, ExceptionName.CONTESTED})
    shape = session_shape(replace(waiting(), exceptions=names), LINKS)
    assert shape.model_dump(mode="json")["exceptions"] == ["contested", "late", "underpaid"]


def test_a_picture_qpay_left_out_is_drawn() -> None:
    shape = session_shape(with_invoice(qr_image=""), LINKS)
    assert shape.invoice is not None
    assert shape.invoice.qr_image == qr_png(shape.invoice.qr_text)
    assert shape.invoice.qr_image.startswith("iVBORw0KGgo")
    undrawn = session_shape(with_invoice(qr_image=""), LINKS, draw_qr=False)
    assert undrawn.invoice is not None
    assert undrawn.invoice.qr_image == ""


def test_a_session_without_an_invoice_shows_none() -> None:
    creating = replace(waiting().attempts[0], id=None, qr_text="", state=InvoiceState.UNKNOWN)
    assert session_shape(replace(waiting(), attempts=(creating,)), LINKS).invoice is None


@pytest.mark.parametrize("status", [Status.PAID, Status.CANCELLED])
def test_nothing_is_shown_that_must_not_be_paid(status: Status) -> None:
    shape = session_shape(replace(waiting(), status=status), LINKS)
    assert shape.invoice is not None
    assert (shape.invoice.id, shape.invoice.qr_text, shape.invoice.links) == ("inv1", "", ())


def test_an_expired_session_still_shows_its_open_invoice() -> None:
    shape = session_shape(steps.expired(waiting(), START + 1800 * SECOND), LINKS)
    assert shape.status is Status.EXPIRED
    assert shape.invoice is not None
    assert shape.invoice.qr_text
    assert shape.invoice.qr_image == ""


def test_the_payable_attempt_goes_before_a_later_one_without_qr() -> None:
    session = waiting()
    later = replace(session.attempts[0], number=2, id="inv2", state=InvoiceState.CANCELLED)
    shape = session_shape(replace(session, attempts=(*session.attempts, later)), LINKS)
    assert shape.invoice is not None
    assert shape.invoice.id == "inv1"


def with_invoice(**changes: Any) -> Any:
    session = waiting()
    return replace(session, attempts=(replace(session.attempts[0], **changes),))


def stats(**loads: int) -> StoreStats:
    return StoreStats(
        by_status={Status.PAID: 2},
        by_exception={ExceptionName.LATE: 1, ExceptionName.UNDERPAID: 0},
        created_24h=2,
        orders=3,
        refund_due_count=1,
        refund_due=12_345,
        unmatched=0,
        checks_due=4,
        events_undelivered=5,
        events_parked=2,
        held_count=2,
        held=500,
        swept_until=SECOND,
        loads=loads,
    )


def test_stats_name_every_status_and_every_load() -> None:
    told = stats_shape(stats(cache=97, database=2, adopted=1), with_rate=True).model_dump(mode="json")
    assert told == {
        "sessions": 2,
        "by_status": {"PENDING": 0, "PAID": 2, "EXPIRED": 0, "CANCELLED": 0},
        "by_exception": {"late": 1},
        "created_24h": 2,
        "orders": 3,
        "refund_due": {"count": 1, "amount": "123.45"},
        "held": {"count": 2, "amount": "5.00"},
        "unmatched": 0,
        "loads": {"cache": 97, "database": 2, "adopted": 1},
        "fallback_rate": 0.03,
        "checks_due": 4,
        "events_undelivered": 5,
        "events_parked": 2,
        "swept_until": "1970-01-01T00:00:01Z",
    }


def test_there_is_no_rate_of_nothing_and_none_without_a_shared_cache() -> None:
    assert stats_shape(stats(), with_rate=True).fallback_rate is None
    assert stats_shape(stats(cache=1), with_rate=False).fallback_rate is None
