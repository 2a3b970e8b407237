"""Side by side with the old shop: sessions in Redis, invoices at QPay, and the gateway sends us the calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from tests.e2e.test_seed_api import CHECKOUT, GATEWAY, SECRET, asked, bearer

from tulbur.commands.demo import Demo, running
from tulbur.ports import InvoiceRequest
from tulbur.web.seed_webhook import MOST_UNVERIFIED

pytestmark = [pytest.mark.anyio, pytest.mark.store("valkey")]

TOKEN = "the-token-the-old-shop-made"
SETTINGS = {
    "seed_api": "on",
    "seed_api_trusted_networks": "127.0.0.0/8",
    "seed_api_unverified_prices": "on",
    "tulbur_jwt_secret": SECRET,
}


class OldShop:
    """What the old shop did before: a key in Redis, and an invoice at QPay that calls the old address."""

    def __init__(self, demo: Demo, redis: Any, http: aiohttp.ClientSession) -> None:
        self.demo, self.redis, self.http = demo, redis, http

    async def seeds(self, session_id: str, **changes: Any) -> str:
        """The invoice's id."""
        made = await self.demo.tulbur.provider.create_invoice(
            InvoiceRequest(
                sender_invoice_no=session_id,
                receiver_code="terminal",
                description="old shop",
                amount=500_00,
                callback_url=f"{self.demo.base_url}/payments/qpay/webhook?sessionId={session_id}&token={TOKEN}",
            )
        )
        said = CHECKOUT | {"userId": "user123", "callbackToken": TOKEN, "invoiceId": made.id} | changes
        await self.redis.set(f"payment-session:{session_id}", json.dumps(said), ex=600)
        return made.id

    async def hook(self, session_id: str, token: str, method: str = "POST", **more: Any) -> tuple[int, Any]:
        url = f"{self.demo.base_url}/payments/qpay/webhook?sessionId={session_id}&token={token}"
        return await asked(self.http, method, url, **more)


@pytest.fixture
async def redis(database: Callable[[str], str]) -> AsyncIterator[Any]:
    url = database("valkey")
    async with Redis.from_url(url.replace("valkey://", "redis://")) as client:
        await client.flushdb()
        client.told = url
        yield client


@pytest.fixture
async def old(redis: Any) -> AsyncIterator[OldShop]:
    async with running(changes=SETTINGS | {"redis_url": redis.told}) as demo, aiohttp.ClientSession() as http:
        yield OldShop(demo, redis, http)


async def pay(old: OldShop, invoice_id: str) -> dict[str, Any]:
    _, paid = await asked(old.http, "POST", f"{old.demo.simulator_url}/_sim/invoices/{invoice_id}/pay", json={})
    return dict(paid)


async def test_qpay_calls_the_old_address_and_the_order_is_made(old: OldShop) -> None:
    invoice_id = await old.seeds("old-1")
    paid = await pay(old, invoice_id)
    assert paid["callback"] == {"status": 200, "body": "SUCCESS"}
    status, found = await asked(
        old.http, "GET", f"{old.demo.base_url}/payments/qpay/status?sessionId=old-1", headers=bearer("user123")
    )
    assert (status, found["status"], found["paidAmount"], len(found["orderIds"])) == (200, "PROCESSED", 500, 2)
    key = {"Authorization": f"Bearer {old.demo.api_key}"}
    _, session = await asked(old.http, "GET", f"{old.demo.base_url}/v1/sessions/old-1", headers=key)
    assert TOKEN not in json.dumps(session)
    async with old.http.get(f"{old.demo.base_url}/metrics") as answer:
        assert 'tulbur_session_loads_total{source="adopted"} 1.0' in await answer.text()
    again, said = await old.hook("old-1", TOKEN, json={"invoiceId": invoice_id, "status": "PAID"})
    assert (again, said["reason"], said["orderIds"]) == (200, "DUPLICATE", found["orderIds"])


async def test_its_payer_sees_it_and_nobody_else_does(old: OldShop) -> None:
    await old.seeds("old-2")
    url = f"{old.demo.base_url}/payments/qpay/status?sessionId=old-2"
    status, found = await asked(old.http, "GET", url, headers=bearer("user123"))
    assert (status, found["status"], found["expectedAmount"]) == (200, "PENDING", 500)
    assert (await asked(old.http, "GET", url, headers=bearer("somebody")))[0] == 403


async def test_a_wrong_token_is_forged_and_stores_no_hint(old: OldShop) -> None:
    invoice_id = await old.seeds("old-3")
    for token in ("wrong", "", "x" * 300):
        status, said = await old.hook("old-3", token, json={"invoiceId": invoice_id})
        assert (status, said["reason"]) == (403, "INVALID_CALLBACK_TOKEN")
    stored = await old.demo.tulbur.store.get("old-3")
    assert stored is None or stored.hints == ()


async def test_the_gateway_needs_no_token_and_the_key_need_not_name_the_invoice(old: OldShop) -> None:
    invoice_id = await old.seeds("old-4", callbackToken=None, invoiceId=None)
    await pay(old, invoice_id)
    url = f"{old.demo.base_url}/api/internal/payments/qpay/webhook?sessionId=old-4"
    body = {"invoiceId": invoice_id, "status": "PAID", "payload": {}}
    status, said = await asked(old.http, "POST", url, json=body, headers=GATEWAY)
    assert (status, said["processed"], len(said["orderIds"])) == (200, True, 2)
    status, said = await asked(old.http, "POST", url, json=body, headers=GATEWAY)
    assert (status, said["processed"], said["reason"]) == (200, False, "DUPLICATE")


async def test_it_is_followed_within_seconds_and_outlives_its_key(old: OldShop) -> None:
    invoice_id = await old.seeds("old-5")
    async with asyncio.timeout(20):
        while await old.demo.tulbur.store.get("old-5") is None:
            await asyncio.sleep(0.05)
    await old.redis.flushdb()
    await pay(old, invoice_id)
    stored = await old.demo.tulbur.store.get("old-5")
    assert stored is not None
    assert len(stored.orders) == 2


async def test_while_redis_is_away_nothing_is_called_unknown(redis: Any) -> None:
    away = SETTINGS | {"redis_url": "redis://127.0.0.1:1/0"}
    async with running(changes=away) as demo, aiohttp.ClientSession() as http:
        old = OldShop(demo, redis, http)
        status, said = await old.hook("old-6", "t", json={"payload": {"qpay_payment_id": "pay-1"}})
        assert (status, said["reason"]) == (200, "PAYMENT_CHECK_API_FAILED")
        assert [row.payment_id for row in await demo.tulbur.store.unmatched(10)] == ["pay-1"]
        assert (await old.hook("old-6", "t", json={}))[0] == 503
        url = f"{demo.base_url}/payments/qpay/status?sessionId=old-6"
        assert (await asked(http, "GET", url, headers=bearer("user123")))[0] == 503
        internal = f"{demo.base_url}/api/internal/payments/qpay/webhook?sessionId=old-6"
        status, said = await asked(http, "POST", internal, json={"payment_id": "pay-2"}, headers=GATEWAY)
        assert (status, said["reason"]) == (200, "PAYMENT_CHECK_API_FAILED")
        hinted = {row.payment_id: row.hinted_session_id for row in await demo.tulbur.store.unmatched(10)}
        assert hinted == {"pay-1": "", "pay-2": "old-6"}, "whose token nobody checked, names no session"
        assert MOST_UNVERIFIED == 1000
