"""POST /v1/sessions: bodies, Idempotency-Key, and what is told when QPay or the database is away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.web.api_world import CART, SESSION_FIELDS, Api, assert_problem

from tulbur.core.session import Status
from tulbur.errors import ProviderRefused

pytestmark = pytest.mark.anyio


async def test_a_session_is_opened(api: Api) -> None:
    answer = await api.post("/v1/sessions", json=CART)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    session = answer.json()
    assert set(session) == SESSION_FIELDS
    assert (session["status"], session["amount"], session["currency"]) == ("PENDING", "50000.00", "MNT")
    assert session["exceptions"] == session["payments"] == session["orders"] == []
    assert session["discount"] is None
    assert session["items"][0] == CART["items"][0] | {"unit_price": "15000.00"}
    assert session["created_at"] == "2026-09-21T14:13:20Z"
    assert session["expires_at"] == "2026-09-21T14:43:20Z"
    assert session["checkout_url"].startswith(f"https://pay.shop.mn/pay/{session['id']}/")
    assert set(session["invoice"]) == {"id", "qr_text", "qr_image", "short_url", "links"}
    assert set(session["invoice"]["links"][0]) == {"name", "description", "logo", "link"}
    assert api.qpay.invoices[0].amount == 5_000_000


async def test_every_field_of_the_page_is_taken(api: Api) -> None:
    session = await api.open(
        amount="50000",
        items=[
            {
                "shop_id": "s1",
                "product_id": "p1",
                "title": "Tea",
                "quantity": 2,
                "unit_price": "25000",
                "options": {"colour": ["red", 1, None, True]},
            }
        ],
        discount={"code": "SPRING", "amount": "0", "product_id": None},
        shipping={"street": "Энхтайваны өргөн чөлөө"},
        shipping_amount="0",
        metadata={"order": {"ratio": 0.25}},
        description="Захиалга",
        expires_in=1800,
        cache_seconds=600,
        return_url=None,
    )
    assert session["discount"] == {"code": "SPRING", "amount": "0.00", "product_id": None}
    assert session["metadata"] == {"order": {"ratio": 0.25}}
    assert session["shipping"] == {"street": "Энхтайваны өргөн чөлөө"}
    assert session["items"][0]["options"] == {"colour": ["red", 1, None, True]}
    assert session == (await api.get(f"/v1/sessions/{session['id']}")).json()
    await api.cache.inner.drop(session["id"])
    assert session == (await api.get(f"/v1/sessions/{session['id']}")).json()


async def test_without_items_there_is_one_order(api: Api) -> None:
    session = await api.open(items=[], amount=1)
    api.qpay.pay(session["invoice"]["id"], tugrik=1)
    assert (await api.call_back(session["id"])).text == "SUCCESS"
    paid = (await api.get(f"/v1/sessions/{session['id']}")).json()
    assert [(order["shop_id"], order["total"]) for order in paid["orders"]] == [("", "1.00")]


async def test_numbers_with_a_point_are_exact(api: Api) -> None:
    item = '{"shop_id": "s", "product_id": "p", "quantity": 3, "unit_price": 0.70}'
    body = f'{{"user_id": "u", "amount": 2, "items": [{item}], "discount": {{"amount": 0.1}}}}'
    answer = await api.post("/v1/sessions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["items"][0]["unit_price"] == "0.70"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"{", 400, "bad_request"),
        (b'{"user_id": "u", "user_id": "v", "amount": 1}', 400, "bad_request"),
        (b'{"user_id": "u", "amount": NaN}', 400, "bad_request"),
        (b'{"user_id": "\xff", "amount": 1}', 400, "bad_request"),
        (b"[" * 30_000, 400, "bad_request"),
        (b"[]", 422, "invalid"),
        (b"{}", 422, "invalid"),
        (b'{"user_id": "u", "amount": 1e400}', 422, "invalid"),
        (b'{"user_id": "u", "amount": -1}', 422, "invalid"),
        (b'{"user_id": "u", "amount": 0}', 422, "invalid"),
        (b'{"user_id": "u", "amount": "0.50"}', 422, "invalid"),
        (b'{"user_id": "u", "amount": "50000.50"}', 422, "invalid"),
        (b'{"user_id": "u\\u0000", "amount": 1}', 422, "invalid"),
        (b'{"user_id": "\\ud800", "amount": 1}', 422, "invalid"),
        (b'{"user_id": "u", "amount": 1, "metadata": {"\\udfff": 1}}', 422, "invalid"),
        (b'{"user_id": "u", "amount": 1, "id": "mine"}', 422, "invalid"),
        (b'{"user_id": "u", "amount": 1, "discount": {"amount": 1}}', 422, "invalid"),
        (b'{"user_id": "u", "amount": 1, "shipping_amount": 2}', 422, "amount_mismatch"),
        (b'{"user_id": "u", "amount": 1, "metadata": "' + b"x" * 65_536 + b'"}', 413, "too_large"),
    ],
)
async def test_a_bad_body_changes_nothing(api: Api, body: bytes, status: int, code: str) -> None:
    answer = await api.post("/v1/sessions", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, status, code)
    assert api.store.calls == []
    assert api.qpay.invoices == []


async def test_the_wrong_fields_are_named(api: Api) -> None:
    bad = CART | {"user_id": "", "items": [CART["items"][0] | {"quantity": 0}], "hidden": 1}
    problem = assert_problem(await api.post("/v1/sessions", json=bad), 422, "invalid")
    assert {error["field"] for error in problem["errors"]} == {"user_id", "items.0.quantity", "hidden"}
    assert all(set(error) == {"field", "message"} for error in problem["errors"])


@pytest.mark.parametrize("amount", ["49999", "50001", 49_999])
async def test_a_cart_that_does_not_add_up(api: Api, amount: Any) -> None:
    assert_problem(await api.post("/v1/sessions", json=CART | {"amount": amount}), 422, "amount_mismatch")
    assert api.store.calls == []


async def test_another_kind_of_body_is_refused(api: Api) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await api.post("/v1/sessions", content=json.dumps(CART), headers={"Content-Type": kind})
        assert_problem(answer, 400, "bad_request")
    answer = await api.post("/v1/sessions", content=json.dumps(CART))
    assert answer.status_code == 201


# --- Idempotency-Key -------------------------------------------------------------------------------------------------


async def test_the_same_key_and_body_give_the_same_session(api: Api) -> None:
    first = await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "order 7"})
    spelled = CART | {"amount": 50000, "metadata": {}}
    again = await api.post("/v1/sessions", json=spelled, headers={"Idempotency-Key": "order 7"})
    assert first.status_code == again.status_code == 201
    assert again.json() == first.json()
    assert len(api.qpay.invoices) == 1


async def test_a_repeat_shows_the_session_as_it_is_now(api: Api) -> None:
    first = (await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k"})).json()
    api.qpay.pay(first["invoice"]["id"])
    await api.call_back(first["id"])
    again = await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["status"], again.json()["id"]) == (201, "PAID", first["id"])


async def test_the_same_key_with_another_body(api: Api) -> None:
    await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k"})
    answer = await api.post("/v1/sessions", json=CART | {"user_id": "u2"}, headers={"Idempotency-Key": "k"})
    assert_problem(answer, 422, "idempotency_mismatch")


async def test_a_key_belongs_to_its_api_key(api: Api) -> None:
    mine = await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k"})
    theirs = await api.post(
        "/v1/sessions", json=CART | {"user_id": "u2"}, headers={"Idempotency-Key": "k"}, key="other"
    )
    assert theirs.status_code == 201
    assert theirs.json()["id"] != mine.json()["id"]


async def test_a_repeat_while_the_first_is_running(api: Api) -> None:
    api.qpay.gate = asyncio.Event()
    first = asyncio.create_task(api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k"}))
    while "add" not in api.store.calls:
        await asyncio.sleep(0)
    again = await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k"})
    assert_problem(again, 409, "idempotency_running")
    assert again.headers["retry-after"] == "1"
    api.qpay.gate.set()
    assert (await first).status_code == 201


@pytest.mark.parametrize("key", ["", "k" * 256, "ключ".encode().decode("latin-1"), "tab\there", "\x7f"])
async def test_a_key_that_is_none(api: Api, key: str) -> None:
    headers = [("Authorization", "Bearer key-of-the-shop"), ("Idempotency-Key", key.encode("latin-1"))]
    answer = await api.http.post("/v1/sessions", json=CART, headers=headers)
    assert_problem(answer, 422, "invalid")
    assert api.store.calls == []


async def test_two_keys_are_none(api: Api) -> None:
    headers = [("Authorization", "Bearer key-of-the-shop"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert_problem(await api.http.post("/v1/sessions", json=CART, headers=headers), 422, "invalid")


async def test_the_longest_key_is_taken(api: Api) -> None:
    answer = await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k" * 255})
    assert answer.status_code == 201


# --- when QPay or the database is away -------------------------------------------------------------------------------


async def test_without_qpay_the_session_is_stored_and_named(api: Api) -> None:
    api.qpay_down()
    answer = await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k"})
    problem = assert_problem(answer, 502, "provider_unavailable")
    stored = await api.stored(problem["session_id"])
    assert stored.status is Status.PENDING
    api.qpay.fault = None
    again = await api.post("/v1/sessions", json=CART, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (201, stored.id)


async def test_qpays_refusal_is_passed_on_with_its_key(api: Api) -> None:
    api.qpay.fault = ProviderRefused("INVOICE_CODE_INVALID", "код буруу", fields={"invoice_code": "буруу"})
    problem = assert_problem(await api.post("/v1/sessions", json=CART), 502, "provider_refused")
    assert problem["key"] == "INVOICE_CODE_INVALID"
    assert problem["fields"] == {"invoice_code": "буруу"}
    assert await api.stored(problem["session_id"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/sessions"),
        ("GET", "/v1/sessions"),
        ("GET", "/v1/sessions/s1"),
        ("POST", "/v1/sessions/s1/cancel"),
        ("POST", "/v1/sessions/s1/check"),
        ("GET", "/v1/orders/o1"),
        ("GET", "/v1/orders?session_id=s1"),
        ("GET", "/v1/events"),
        ("GET", "/v1/stats"),
    ],
)
async def test_without_the_database_every_route_says_when_to_come_again(api: Api, method: str, path: str) -> None:
    api.database_down()
    answer = await api.call(method, path, json=CART if path == "/v1/sessions" and method == "POST" else None)
    assert_problem(answer, 503, "store_unavailable")
    assert int(answer.headers["retry-after"]) > 0


async def test_what_nobody_foresaw_is_told_to_nobody(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.store.fault = RuntimeError("password=hunter2 at line 7")
    answer = await api.get("/v1/sessions")
    problem = assert_problem(answer, 500, "internal")
    assert "hunter2" not in json.dumps(problem)
    assert "a request failed" in caplog.messages
