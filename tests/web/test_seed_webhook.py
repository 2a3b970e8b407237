"""The old shop's webhook: what it makes of a payment, and every reason it answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.web.seed_world import (
    GATEWAY,
    HOOK,
    HOOKS,
    INTERNAL_HOOK,
    INTERNAL_HOOKS,
    PAYMENT,
    Shop,
    hook_body,
    told,
)

from tulbur.core.session import ExceptionName, Status
from tulbur.errors import ProviderUnavailable

pytestmark = pytest.mark.anyio


# --- paid ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, {}, hook_body(), hook_body(payment_id=PAYMENT), hook_body(payment_id="bogus")])
@pytest.mark.parametrize("path", HOOKS)
async def test_a_paid_session_is_ordered(shop: Shop, session_id: str, path: str, body: Any) -> None:
    shop.api.qpay.pay("inv1")
    answer = told(await shop.hook(session_id, body, path=path))
    stored = await shop.stored(session_id)
    assert answer["orderIds"] == [order.id for order in stored.orders]
    assert (len(answer["orderIds"]), answer["paidAmount"]) == (2, 50000)
    assert (answer["invoiceId"], answer["sessionId"]) == ("inv1", session_id)
    again = told(await shop.hook(session_id, body, path=path), "DUPLICATE")
    assert again == answer | {"processed": False, "reason": "DUPLICATE"}
    assert (await shop.stored(session_id)).orders == stored.orders


@pytest.mark.parametrize("path", INTERNAL_HOOKS)
async def test_the_gateway_needs_no_token(shop: Shop, session_id: str, path: str) -> None:
    shop.api.qpay.pay("inv1")
    assert told(await shop.hook_inside(session_id, hook_body(), path))["paidAmount"] == 50000


async def test_the_gateway_may_name_the_session_in_the_payload(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1")
    for name, reason in (("sender_invoice_no", None), ("sessionId", "DUPLICATE")):
        body = hook_body(**{name: session_id})
        told(await shop.inside.post(INTERNAL_HOOK, json=body, headers=GATEWAY), reason)


async def test_after_the_deadline_and_without_the_cache_it_is_ordered_all_the_same(shop: Shop) -> None:
    session_id = (await shop.seed_inside(top={"ttlSec": 1})).json()["sessionId"]
    shop.api.clock.advance(3600)
    assert await shop.api.cache.inner.get(session_id) is None
    shop.api.qpay.pay("inv1")
    told(await shop.hook(session_id))
    stored = await shop.stored(session_id)
    assert (stored.status, stored.exceptions) == (Status.PAID, {ExceptionName.LATE})
    assert 'tulbur_session_loads_total{source="database"} 1.0' in shop.api.parts.telemetry.exposition().decode()


async def test_many_at_once_make_one_order_set(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1")
    answers = [a.json() for a in await asyncio.gather(*(shop.hook(session_id, hook_body()) for _ in range(8)))]
    assert sum(answer["processed"] for answer in answers) == 1
    assert len((await shop.stored(session_id)).orders) == 2
    told(await shop.hook(session_id), "DUPLICATE")


async def test_another_payment_of_a_paid_session_is_still_seen(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1")
    told(await shop.hook(session_id))
    second = shop.api.qpay.pay("inv1", "999")
    told(await shop.hook(session_id, hook_body(payment_id=second)), "DUPLICATE")
    stored = await shop.stored(session_id)
    assert ExceptionName.PAID_TWICE in stored.exceptions
    assert (len(stored.payments), stored.sum("refund_due")) == (2, 5_000_000)


async def test_it_is_qpays_callback_too(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1")
    for path in HOOKS:
        query = {"sessionId": session_id, "token": shop.callback_token(session_id), "qpay_payment_id": PAYMENT}
        answer = await shop.outside.get(path, params=query)
        assert (answer.status_code, answer.text) == (200, "SUCCESS")
        assert answer.headers["content-type"].startswith("text/plain")
    for path in INTERNAL_HOOKS:
        answer = await shop.inside.get(path, params={"sessionId": session_id}, headers=GATEWAY)
        assert (answer.status_code, answer.text) == (200, "SUCCESS")
    assert (await shop.stored(session_id)).status is Status.PAID


# --- the reasons -----------------------------------------------------------------------------------------------------


async def test_not_paid_is_looked_at_again(shop: Shop, session_id: str) -> None:
    answer = told(await shop.hook(session_id, hook_body()), "NOT_PAID")
    assert (answer["orderIds"], answer["paidAmount"]) == ([], 0)
    stored = await shop.stored(session_id)
    assert (stored.status, [hint.payment_id for hint in stored.hints]) == (Status.PENDING, [""])
    assert stored.next_check_at is not None
    shop.api.qpay.pay("inv1")
    told(await shop.hook(session_id, hook_body()))


async def test_a_body_proves_nothing(shop: Shop, session_id: str) -> None:
    claims = {"payment_id": PAYMENT, "payment_status": "PAID", "paid_amount": 50000, "status": "PAID"}
    body = hook_body(**claims) | claims | {"paidAmount": 50000}
    told(await shop.hook(session_id, body), "NOT_PAID")
    stored = await shop.stored(session_id)
    assert (stored.status, stored.payments, stored.orders) == (Status.PENDING, (), ())
    assert [hint.payment_id for hint in stored.hints] == [PAYMENT]


@pytest.mark.parametrize("tugrik", [1, 49999])
async def test_too_little_is_an_amount_mismatch(shop: Shop, session_id: str, tugrik: int) -> None:
    shop.api.qpay.pay("inv1", tugrik=tugrik)
    answer = told(await shop.hook(session_id, hook_body()), "AMOUNT_MISMATCH")
    assert (answer["paidAmount"], answer["orderIds"]) == (tugrik, [])
    assert (await shop.stored(session_id)).status is Status.PENDING


async def test_too_much_is_ordered(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1", tugrik=60000)
    assert told(await shop.hook(session_id))["paidAmount"] == 60000
    assert (await shop.stored(session_id)).sum("refund_due") == 1_000_000


async def test_another_invoice_is_a_mismatch_and_does_nothing(shop: Shop, session_id: str) -> None:
    shop.api.qpay.pay("inv1")
    before = await shop.stored(session_id)
    for claimed in ("inv2", "INV1", "1"):
        answer = told(await shop.hook(session_id, hook_body(claimed)), "INVOICE_ID_MISMATCH")
        assert (answer["invoiceId"], answer["orderIds"]) == (claimed, [])
    assert await shop.stored(session_id) == before


async def test_one_paid_invoice_confirms_its_own_session_only(shop: Shop, session_id: str) -> None:
    other = (await shop.opened())["sessionId"]
    shop.api.qpay.pay("inv1")
    told(await shop.hook(other, hook_body("inv1", payment_id=PAYMENT)), "INVOICE_ID_MISMATCH")
    told(await shop.hook(other, {"payload": {"payment_id": PAYMENT}}), "NOT_PAID")
    told(await shop.hook(session_id, hook_body("inv1")))
    assert (await shop.stored(other)).orders == ()


async def test_an_invoice_nobody_told_us_of_may_be_ours(shop: Shop) -> None:
    shop.api.qpay_down()
    session_id = (await shop.seed()).json()["sessionId"]
    shop.api.qpay.fault = None
    told(await shop.hook(session_id, hook_body("inv9")), "NOT_PAID")


async def test_a_session_that_is_gone_is_missing_and_its_payment_kept(shop: Shop) -> None:
    answer = told(await shop.hook("gone", hook_body("inv9", payment_id=PAYMENT)), "SESSION_MISSING")
    assert (answer["sessionId"], answer["invoiceId"]) == ("gone", "inv9")
    assert [kept.payment_id for kept in await shop.api.store.inner.unmatched(10)] == [PAYMENT]
    told(await shop.hook_inside("gone", {}), "SESSION_MISSING")


@pytest.mark.parametrize("body", [None, {}, hook_body("inv9"), {"payload": []}, {"payload": {"sessionId": [1]}}])
async def test_without_a_session_there_is_nothing_to_do(shop: Shop, session_id: str, body: Any) -> None:
    shop.api.store.calls.clear()
    answer = told(await shop.outside.post(HOOK, json=body), "NO_SESSION_ID")
    assert answer["sessionId"] is None
    told(await shop.outside.post(f"{HOOK}?sessionId=&token=x", json=body), "NO_SESSION_ID")
    assert shop.api.store.calls == []
    told(await shop.inside.post(INTERNAL_HOOK, json=body, headers=GATEWAY), "NO_SESSION_ID")
    assert told(await shop.outside.get(HOOK), "NO_SESSION_ID")["orderIds"] == []
    del session_id


async def test_a_session_named_in_a_body_needs_the_token_all_the_same(shop: Shop, session_id: str) -> None:
    before = await shop.stored(session_id)
    shop.api.qpay.pay("inv1")
    body = hook_body(sessionId=session_id, sender_invoice_no=session_id) | {"sessionId": session_id}
    for path in (*HOOKS, *INTERNAL_HOOKS):
        for client, headers in ((shop.outside, GATEWAY), (shop.inside, {})):
            told(await client.post(path, json=body, headers=headers), "NO_SESSION_ID")
    assert await shop.stored(session_id) == before


async def test_the_gateway_hears_of_orders_by_their_invoice(shop: Shop, session_id: str) -> None:
    told(await shop.inside.post(INTERNAL_HOOK, json=hook_body(), headers=GATEWAY), "NO_SESSION_ID")
    shop.api.qpay.pay("inv1")
    told(await shop.hook(session_id))
    answer = told(await shop.inside.post(INTERNAL_HOOK, json=hook_body(), headers=GATEWAY), "DUPLICATE")
    assert len(answer["orderIds"]) == 2
    told(await shop.outside.post(HOOK, json=hook_body()), "NO_SESSION_ID")


async def test_without_qpay_the_check_has_failed_and_the_hint_is_kept(shop: Shop, session_id: str) -> None:
    shop.api.qpay.fault = ProviderUnavailable()
    told(await shop.hook(session_id, hook_body(payment_id=PAYMENT)), "PAYMENT_CHECK_API_FAILED")
    stored = await shop.stored(session_id)
    assert [hint.payment_id for hint in stored.hints] == [PAYMENT]
    assert stored.next_check_at is not None
    shop.api.qpay.fault = None
    shop.api.qpay.pay("inv1")
    told(await shop.hook(session_id, hook_body()))


async def test_a_question_under_way_is_not_an_answer(shop: Shop, session_id: str) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    check = shop.api.qpay.check

    async def slow(invoice_id: str) -> Any:
        asked.set()
        await answer.wait()
        return await check(invoice_id)

    shop.api.qpay.check = slow  # type: ignore[method-assign]
    shop.api.qpay.pay("inv1")
    first = asyncio.create_task(shop.hook(session_id, hook_body()))
    await asked.wait()
    told(await shop.hook(session_id, hook_body()), "PAYMENT_CHECK_API_FAILED")
    answer.set()
    told(await first)


async def test_whoever_did_not_ask_made_nothing(shop: Shop, session_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The orders of the first come to be between the second's hint and its answer."""
    shop.api.qpay.pay("inv1")
    callback = shop.api.parts.payments.callback

    async def overtaken(session_id: str, payment_id: str) -> str:
        await callback(session_id, payment_id)
        return "waiting"

    monkeypatch.setattr(shop.api.parts.payments, "callback", overtaken)
    assert len(told(await shop.hook(session_id, hook_body()), "DUPLICATE")["orderIds"]) == 2


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.EXPIRED])
async def test_a_closed_session_is_not_paid_and_late_money_counts(shop: Shop, session_id: str, status: Status) -> None:
    if status is Status.CANCELLED:
        assert (await shop.cancel(session_id)).status_code == 200
    else:
        shop.api.clock.advance(601)
    told(await shop.hook(session_id), "NOT_PAID")
    assert (await shop.stored(session_id)).status is status
    shop.api.qpay.pay("inv1")
    assert len(told(await shop.hook(session_id))["orderIds"]) == 2
