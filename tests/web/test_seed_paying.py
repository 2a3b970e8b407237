"""The old shop's status, cancel and ebarimt: shapes, owners, and when QPay is asked."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.web.seed_world import Shop, bearer

from tulbur.core.session import Status

pytestmark = pytest.mark.anyio

STATUS_NAMES = {
    *("ok", "sessionId", "status", "invoiceId", "orderIds", "paidAmount", "expectedAmount"),
    *("lastCheckAt", "processedAt"),
}


async def state(shop: Shop, session_id: str) -> dict[str, Any]:
    answer = await shop.ask("status", session_id)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert set(body) == STATUS_NAMES
    return body


def assert_failed(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["ok"] is False
    assert body["error"]
    return body


# --- status ----------------------------------------------------------------------------------------------------------


async def test_a_session_that_waits_is_pending(shop: Shop, session_id: str) -> None:
    assert await state(shop, session_id) == {
        "ok": True,
        "sessionId": session_id,
        "status": "PENDING",
        "invoiceId": "inv1",
        "orderIds": None,
        "paidAmount": None,
        "expectedAmount": 50000,
        "lastCheckAt": "2026-09-21T14:13:20.000Z",
        "processedAt": None,
    }


async def test_asking_for_the_status_asks_qpay_once_in_ten_seconds(shop: Shop, session_id: str) -> None:
    for _ in range(5):
        assert (await state(shop, session_id))["status"] == "PENDING"
    assert shop.api.qpay.questions == 1
    shop.api.qpay.pay("inv1")
    assert (await state(shop, session_id))["status"] == "PENDING"
    shop.api.clock.advance(10)
    paid = await state(shop, session_id)
    assert (paid["status"], paid["paidAmount"], len(paid["orderIds"])) == ("PROCESSED", 50000, 2)
    assert paid["processedAt"] == "2026-09-21T14:13:30.000Z"
    shop.api.clock.advance(60)
    assert await state(shop, session_id) == paid
    assert shop.api.qpay.questions == 2


async def test_without_qpay_the_status_is_what_is_stored(shop: Shop, session_id: str) -> None:
    shop.api.qpay_down()
    assert (await state(shop, session_id))["status"] == "PENDING"


async def test_money_that_is_too_little_is_shown(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1", tugrik=20000)
    found = await state(shop, session_id)
    assert (found["status"], found["paidAmount"], found["orderIds"]) == ("PENDING", 20000, None)


async def test_cancelled_and_expired_are_told_without_asking(shop: Shop, session_id: str) -> None:
    other = (await shop.opened())["sessionId"]
    await shop.cancel(other)
    shop.api.clock.advance(601)
    assert (await state(shop, session_id))["status"] == "EXPIRED"
    asked = shop.api.qpay.questions
    shop.api.clock.advance(60)
    assert (await state(shop, session_id))["status"] == "EXPIRED"
    assert (await state(shop, other))["status"] == "CANCELLED"
    assert shop.api.qpay.questions == asked


@pytest.mark.parametrize("session_id", ["unknown", "x" * 101, "\x00", "я", " "])
async def test_an_unknown_session_is_not_found(shop: Shop, session_id: str) -> None:
    found = await state(shop, session_id)
    assert found == dict.fromkeys(STATUS_NAMES) | {
        "ok": True,
        "sessionId": session_id,
        "status": "SESSION_NOT_FOUND",
    }


async def test_every_old_address_answers(shop: Shop, session_id: str) -> None:
    for at in ("", "/api", "/order/api"):
        assert (await shop.ask("status", session_id, at=at)).json()["ok"] is True
        assert (await shop.ask("ebarimt", session_id, at=at)).json()["ok"] is True


# --- ebarimt ---------------------------------------------------------------------------------------------------------


async def test_there_is_no_receipt_yet(shop: Shop, session_id: str) -> None:
    def expected(status: str, payment_id: str | None) -> dict[str, Any]:
        receipt = dict.fromkeys(("status", "receiptId", "qrData", "createdAt", "lastError"))
        told = {"ok": True, "sessionId": session_id, "status": status, "invoiceId": "inv1"}
        return told | {"paymentId": payment_id, "ebarimt": receipt}

    assert (await shop.ask("ebarimt", session_id)).json() == expected("PENDING", None)
    payment_id = shop.api.qpay.pay("inv1")
    await shop.hook(session_id)
    assert (await shop.ask("ebarimt", session_id)).json() == expected("PROCESSED", payment_id)


async def test_an_unknown_session_has_none(shop: Shop) -> None:
    assert_failed(await shop.ask("ebarimt", "unknown"), 404)


# --- cancel ----------------------------------------------------------------------------------------------------------


async def test_the_owner_cancels(shop: Shop, session_id: str) -> None:
    answer = await shop.cancel(session_id)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"ok", "message", "sessionId", "status"}
    assert (answer.json()["ok"], answer.json()["status"]) == (True, "CANCELLED")
    again = (await shop.cancel(session_id)).json()
    assert (again["ok"], again["status"]) == (True, "CANCELLED")
    assert again["message"] != answer.json()["message"]
    assert (await shop.stored(session_id)).status is Status.CANCELLED
    (event,) = [one for one in await shop.api.store.history(session_id, 200) if one.type == "session.cancelled"]
    assert event.data == {"by": "the payer"}


async def test_an_order_is_not_cancelled(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1")
    assert assert_failed(await shop.cancel(session_id), 400)["status"] == "PROCESSED"
    assert_failed(await shop.cancel(session_id), 400)
    assert (await shop.stored(session_id)).status is Status.PAID


async def test_an_expired_session_stays_as_it_is(shop: Shop, session_id: str) -> None:
    shop.api.clock.advance(601)
    await shop.hook(session_id)
    answer = (await shop.cancel(session_id)).json()
    assert (answer["ok"], answer["status"]) == (True, "EXPIRED")


async def test_without_qpay_nothing_is_cancelled(shop: Shop, session_id: str) -> None:
    shop.api.qpay_down()
    assert assert_failed(await shop.cancel(session_id), 502)["sessionId"] == session_id
    assert (await shop.stored(session_id)).status is Status.PENDING


@pytest.mark.parametrize(("named", "status"), [("unknown", 404), ("", 400), (None, 400), (["x"], 400), (7, 400)])
async def test_a_session_that_is_none_is_not_cancelled(shop: Shop, named: Any, status: int) -> None:
    assert_failed(await shop.cancel(named), status)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null"])
async def test_a_body_that_is_none_cancels_nothing(shop: Shop, body: bytes) -> None:
    headers = bearer() | {"Content-Type": "application/json"}
    assert_failed(await shop.outside.post("/payments/qpay/cancel", content=body, headers=headers), 400)


# --- owners ----------------------------------------------------------------------------------------------------------


async def test_another_user_sees_and_does_nothing(shop: Shop, session_id: str) -> None:
    before = await shop.stored(session_id)
    for answer in (
        await shop.ask("status", session_id, user="u2"),
        await shop.ask("ebarimt", session_id, user="u2"),
        await shop.cancel(session_id, user="u2"),
        await shop.ask("status", session_id, user="U1"),
    ):
        body = assert_failed(answer, 403)
        assert set(body) == {"ok", "error"}
    query = {"sessionId": session_id, "userId": "u1"}
    assert_failed(await shop.outside.get("/payments/qpay/status", params=query, headers=bearer("u2")), 403)
    assert await shop.stored(session_id) == before
    assert shop.api.qpay.questions == 0


@pytest.mark.parametrize("name", ["status", "ebarimt"])
async def test_a_session_must_be_named(shop: Shop, name: str) -> None:
    assert_failed(await shop.ask(name, None), 400)
    assert_failed(await shop.ask(name, ""), 400)


@pytest.mark.parametrize("name", ["status", "ebarimt"])
async def test_without_the_database_it_says_so(shop: Shop, session_id: str, name: str) -> None:
    await shop.api.cache.inner.drop(session_id)
    shop.api.database_down()
    assert_failed(await shop.ask(name, session_id), 503)
