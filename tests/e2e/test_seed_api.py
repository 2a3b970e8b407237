"""The old shop's own drill over HTTP: seed, let the time run out, pay late, call the webhook, expect the order."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import OctKey

from tulbur.commands.demo import Demo, running

pytestmark = pytest.mark.anyio

SECRET = "the-secret-the-old-shop-signs-its-tokens-with"
GATEWAY = {"x-internal-request": "true"}
CHECKOUT: dict[str, Any] = {
    "cart": [
        {"productId": "677e7b5c8f9a1b2c3d4e5f6a", "quantity": 2, "sale_price": 100, "shopId": "shop1"},
        {"productId": "677e7b5c8f9a1b2c3d4e5f6b", "quantity": 1, "sale_price": 300, "shopId": "shop2"},
    ],
    "sellers": ["shop1", "shop2"],
    "totalAmount": 500,
}


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    settings = {
        "seed_api": "on",
        "seed_api_trusted_networks": "127.0.0.0/8",
        "seed_api_unverified_prices": "on",
        "tulbur_jwt_secret": SECRET,
    }
    async with running(changes=settings) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def bearer(user: str) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        key = OctKey.import_key(SECRET.encode())
    token = jwt.encode({"alg": "HS256"}, {"id": user, "exp": int(time.time()) + 60}, key)
    return {"Authorization": f"Bearer {token}"}


async def asked(http: aiohttp.ClientSession, method: str, url: str, **more: Any) -> tuple[int, Any]:
    async with http.request(method, url, **more) as answer:
        return answer.status, await answer.json()


async def pay(http: aiohttp.ClientSession, demo: Demo, invoice_id: str, *, callback: bool) -> dict[str, Any]:
    url = f"{demo.simulator_url}/_sim/invoices/{invoice_id}/pay"
    status, paid = await asked(http, "POST", url, json={"callback": callback})
    assert status == 200, paid
    return dict(paid)


async def state(http: aiohttp.ClientSession, demo: Demo, session_id: str) -> dict[str, Any]:
    url = f"{demo.base_url}/payments/qpay/status?sessionId={session_id}"
    _, found = await asked(http, "GET", url, headers=bearer("user123"))
    return dict(found)


async def test_a_late_webhook_still_makes_the_order(demo: Demo, http: aiohttp.ClientSession) -> None:
    seed = f"{demo.base_url}/order/api/internal/payments/qpay/seed-session"
    body = {"ttlSec": 1, "sessionData": CHECKOUT | {"userId": "user123"}}
    status, opened = await asked(http, "POST", seed, json=body, headers=GATEWAY)
    assert (status, opened["success"], opened["ttlSec"]) == (200, True, 1), opened
    session_id, invoice_id = opened["sessionId"], opened["invoice"]["invoiceId"]
    assert opened["invoice"]["deeplinks"]

    async with asyncio.timeout(20):
        while (await state(http, demo, session_id))["status"] != "EXPIRED":
            await asyncio.sleep(0.1)
        while await demo.tulbur.cache.get(session_id) is not None:
            await asyncio.sleep(0.1)
    await pay(http, demo, invoice_id, callback=False)

    token = demo.tulbur.links.callback_url(session_id).rpartition("/")[2]
    hook = f"{demo.base_url}/payments/qpay/webhook?sessionId={session_id}&token="
    said = {"invoiceId": invoice_id, "status": "PAID", "payload": {"sender_invoice_no": session_id}}
    assert await asked(http, "POST", f"{hook}wrong", json=said) == (
        403,
        {"ok": False, "reason": "INVALID_CALLBACK_TOKEN"},
    )
    status, first = await asked(http, "POST", hook + token, json=said)
    assert (status, first["processed"], len(first["orderIds"]), first["paidAmount"]) == (200, True, 2, 500), first
    assert b'tulbur_session_loads_total{source="database"} 1.0' in demo.tulbur.telemetry.exposition()
    status, again = await asked(http, "POST", hook + token, json=said)
    assert (status, again["reason"], again["orderIds"]) == (200, "DUPLICATE", first["orderIds"])
    found = await state(http, demo, session_id)
    assert (found["status"], found["orderIds"]) == ("PROCESSED", first["orderIds"])


async def test_a_browser_pays_in_time(demo: Demo, http: aiohttp.ClientSession) -> None:
    seed, mine = f"{demo.base_url}/payments/qpay/seed-session", bearer("user123")
    status, opened = await asked(http, "POST", seed, json=CHECKOUT, headers=mine)
    assert status == 200, opened
    paid = await pay(http, demo, opened["invoice"]["invoiceId"], callback=True)
    assert paid["callback"] == {"status": 200, "body": "SUCCESS"}
    assert (await state(http, demo, opened["sessionId"]))["status"] == "PROCESSED"
    cancel, body = f"{demo.base_url}/payments/qpay/cancel", {"sessionId": opened["sessionId"]}
    assert (await asked(http, "POST", cancel, json=body, headers=mine))[0] == 400
    assert (await asked(http, "POST", cancel, json=body, headers=bearer("user124")))[0] == 403
    forged = GATEWAY | {"X-Forwarded-For": "198.51.100.7"}
    inside = f"{demo.base_url}/api/internal/payments/qpay/seed-session"
    body = {"sessionData": CHECKOUT | {"userId": "user123"}}
    assert (await asked(http, "POST", inside, json=body, headers=forged))[0] == 401
