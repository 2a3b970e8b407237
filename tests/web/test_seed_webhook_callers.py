"""Who may call the old shop's webhook, and with what."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from tests.web.seed_world import (
    GATEWAY,
    HOOK,
    HOOKS,
    INTERNAL_HOOK,
    INTERNAL_HOOKS,
    PAYMENT,
    Shop,
    told,
)

from tulbur.core.custody import Claim, Custody
from tulbur.core.session import Status

pytestmark = pytest.mark.anyio


# --- who may call ----------------------------------------------------------------------------------------------------


async def assert_forged(shop: Shop, answer: httpx2.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert answer.json() == {"ok": False, "reason": "INVALID_CALLBACK_TOKEN"}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", [*HOOKS, *INTERNAL_HOOKS])
async def test_a_wrong_token_is_refused_after_one_read(shop: Shop, session_id: str, path: str, method: str) -> None:
    shop.api.qpay.pay("inv1")
    right = shop.callback_token(session_id)
    pay_token = shop.api.parts.links.checkout_url(session_id).rpartition("/")[2]
    shop.api.store.calls.clear()
    shop.api.cache.calls.clear()
    forged = ["", right[:-1], right + "A", right.swapcase(), shop.callback_token("other"), pay_token, "\x00", "€"]
    for token in forged:
        params = {"sessionId": session_id, "token": token, "qpay_payment_id": PAYMENT}
        await assert_forged(shop, await shop.outside.request(method, path, params=params, content=b"{"))
        await assert_forged(shop, await shop.outside.request(method, path, params=params, headers=GATEWAY))
    await assert_forged(shop, await shop.outside.request(method, path, params={"sessionId": session_id}))
    await assert_forged(shop, await shop.outside.request(method, path, params={"sessionId": "unknown", "token": "x"}))
    assert (set(shop.api.store.calls), shop.api.cache.calls) == ({"get"}, []), "an imported session may have it"
    assert len(shop.api.store.calls) == 2 * (len(forged) - 1) + 1, "no token, no read"
    assert (await shop.stored(session_id)).status is Status.PENDING


@pytest.mark.parametrize("custody", Custody)
async def test_the_token_of_an_imported_session_is_good(shop: Shop, session_id: str, custody: Custody) -> None:
    claim = Claim(status="PENDING", digest="d", token_digest=sha256(b"old-token").hexdigest())
    before = await shop.stored(session_id)
    after = replace(before, custody=custody, claim=claim).with_news("session.imported", before.created_at)
    await shop.api.store.commit(before, after)
    params = {"sessionId": session_id, "token": "old-token", "qpay_payment_id": PAYMENT}
    answer = await shop.outside.get(HOOK, params=params)
    assert (answer.status_code, answer.text) == (200, "SUCCESS")
    assert [hint.payment_id for hint in (await shop.stored(session_id)).hints] == [PAYMENT]
    await assert_forged(shop, await shop.outside.get(HOOK, params=params | {"token": "old-tokem"}))


@pytest.mark.parametrize("path", HOOKS)
async def test_on_the_public_address_the_gateway_needs_the_token_too(shop: Shop, session_id: str, path: str) -> None:
    await assert_forged(shop, await shop.inside.post(path, params={"sessionId": session_id}, headers=GATEWAY))


async def test_the_token_opens_the_inner_address_as_well(shop: Shop, session_id: str) -> None:
    told(await shop.hook(session_id, path=INTERNAL_HOOK), "NOT_PAID")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE"])
async def test_another_method_is_no_webhook(shop: Shop, session_id: str, method: str) -> None:
    params = {"sessionId": session_id, "token": shop.callback_token(session_id)}
    assert (await shop.outside.request(method, HOOK, params=params)).status_code == 405
    assert (await shop.stored(session_id)).hints == ()


# --- bodies and failures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 60_000])
async def test_a_body_that_is_no_json_changes_nothing(shop: Shop, session_id: str, body: bytes) -> None:
    before = await shop.stored(session_id)
    params = {"sessionId": session_id, "token": shop.callback_token(session_id)}
    answer = await shop.outside.post(HOOK, params=params, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert await shop.stored(session_id) == before


@pytest.mark.parametrize(
    "body",
    [
        {"invoiceId": {"$ne": ""}},
        {"invoiceId": None, "payload": None},
        {"invoiceId": True, "payload": "x"},
        {"invoiceId": "x" * 101, "payload": [1]},
        {"payload": {"payment_id": "../../1"}},
        {"payload": {"payment_id": {"a": 1}}, "qpay_payment_id": "a b"},
        {"status": "PAID", "payment_id": "x" * 65},
    ],
)
async def test_nonsense_in_a_body_says_nothing(shop: Shop, session_id: str, body: Any) -> None:
    assert told(await shop.hook(session_id, body), "NOT_PAID")["invoiceId"] == "inv1"
    assert [hint.payment_id for hint in (await shop.stored(session_id)).hints] == [""]


async def test_another_kind_of_body_says_nothing(shop: Shop, session_id: str) -> None:
    params = {"sessionId": session_id, "token": shop.callback_token(session_id)}
    told(await shop.outside.post(HOOK, params=params, data={"invoiceId": "inv9"}), "NOT_PAID")


@pytest.mark.parametrize("value", ["%00", "../1", "x" * 65, f"{PAYMENT}&qpay_payment_id=2"])
async def test_what_cannot_be_a_payment_id_is_no_success(shop: Shop, session_id: str, value: str) -> None:
    query = f"?sessionId={session_id}&token={shop.callback_token(session_id)}&qpay_payment_id={value}"
    answer = await shop.outside.get(HOOK + query)
    assert (answer.status_code, answer.json()["success"]) == (400, False)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", [None, RuntimeError("hunter2")])
async def test_without_the_database_there_is_no_success(
    shop: Shop, session_id: str, method: str, fault: Exception | None
) -> None:
    shop.api.database_down()
    shop.api.store.fault = fault or shop.api.store.fault
    await shop.api.cache.inner.drop(session_id)
    params = {"sessionId": session_id, "token": shop.callback_token(session_id)}
    answer = await shop.outside.request(method, HOOK, params=params)
    assert answer.status_code == (503 if fault is None else 500)
    assert answer.json()["success"] is False
    assert "SUCCESS" not in answer.text
    assert "hunter2" not in answer.text


async def test_webhooks_are_counted_among_the_callbacks(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1")
    await shop.hook(session_id, token="forged")
    await shop.hook(session_id)
    counted = shop.api.parts.telemetry.exposition().decode()
    for outcome in ("forged", "paid"):
        assert f'tulbur_callbacks_total{{outcome="{outcome}"}} 1.0' in counted
