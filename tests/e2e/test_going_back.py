"""The rollback as it is typed: seed, export, pay, QPay calls tulbur, take back, one order set."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from tulbur.commands.demo import Demo, running

pytestmark = [pytest.mark.anyio, pytest.mark.store("sqlite"), pytest.mark.store("valkey")]

SETTINGS = ("QPAY_", "TULBUR_", "DATABASE_", "OLD_", "REDIS_")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
CHECKOUT: dict[str, Any] = {
    "userId": "user123",
    "cart": [
        {"productId": "p1", "quantity": 2, "sale_price": 15000, "shopId": "s1", "title": "Цай"},
        {"productId": "p2", "quantity": 1, "sale_price": 20000, "shopId": "s2", "title": "Аяга"},
    ],
    "sellers": [{"shopId": "s1"}, {"shopId": "s2"}],
    "totalAmount": 47000,
    "shippingAddressId": "a1",
    "coupon": {"code": "SPRING", "discountedProductId": "p1", "discountPercent": 10},
    "channel": "web",
}


async def tulbur(env: Mapping[str, str], *arguments: str) -> tuple[int, Any, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "tulbur.cli", "export-redis", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=CLEAN | dict(env),
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    text = out.decode()
    return process.returncode or 0, json.loads(text) if "--json" in arguments and text else text, err.decode()


@pytest.fixture
def valkey(database: Callable[[str], str]) -> str:
    return database("valkey")


@pytest.fixture(params=["its cache is the old shop's Redis", "its cache is its own"])
async def demo(request: pytest.FixtureRequest, tmp_path: Path, valkey: str) -> AsyncIterator[Demo]:
    changes = {"seed_api": "on", "seed_api_trusted_networks": "127.0.0.0/8", "seed_api_unverified_prices": "on"}
    changes["tulbur_jwt_secret"] = "the-secret-the-old-shop-signs-its-tokens-with"
    if request.param.endswith("Redis"):
        changes["redis_url"] = valkey
    async with running(data=tmp_path, changes=changes) as made:
        yield made


@pytest.fixture
def env(demo: Demo, valkey: str) -> dict[str, str]:
    s = demo.settings
    assert s.tulbur_secret_keys is not None
    target = {"REDIS_URL": valkey} if s.redis_url else {"OLD_REDIS_URL": valkey}
    return target | {
        "DATABASE_URL": s.database_url,
        "PUBLIC_URL": str(s.public_url),
        "QPAY_BASE_URL": str(s.qpay_base_url),
        "QPAY_USERNAME": str(s.qpay_username),
        "QPAY_PASSWORD": "123456",
        "QPAY_INVOICE_CODE": str(s.qpay_invoice_code),
        "TULBUR_SECRET_KEYS": s.tulbur_secret_keys.get_secret_value(),
    }


async def asked(method: str, url: str, body: Any = None, **headers: str) -> Any:
    async with aiohttp.ClientSession() as http, http.request(method, url, json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def seeded(demo: Demo) -> tuple[str, str]:
    seed = f"{demo.base_url}/order/api/internal/payments/qpay/seed-session"
    body = {"sessionData": CHECKOUT, "ttlSec": 900}
    opened = await asked("POST", seed, body, **{"x-internal-request": "true"})
    return opened["sessionId"], opened["invoice"]["invoiceId"]


async def session_of(demo: Demo, session_id: str) -> Any:
    url = f"{demo.base_url}/v1/sessions/{session_id}"
    return await asked("GET", url, authorization=f"Bearer {demo.api_key}")


def done(report: Any) -> dict[str, int]:
    return dict(report["reports"][0]["by_status"].get("PENDING", {}))


async def test_out_paid_and_back(demo: Demo, env: dict[str, str], valkey: str) -> None:
    session_id, invoice_id = await seeded(demo)
    code, report, err = await tulbur(env, "--dry-run", "--json")
    assert (code, done(report), err) == (0, {"handed over": 1}, "")
    code, report, err = await tulbur(env, "--json")
    assert (code, done(report), report["reports"][0]["balances"]) == (0, {"handed over": 1}, True), err
    async with Redis.from_url(valkey) as redis:
        value = json.loads(await redis.get(f"payment-session:{session_id}"))
        assert 880 <= await redis.ttl(f"payment-session:{session_id}") <= 900
        lines = [line | {"selectedOptions": {}} for line in CHECKOUT["cart"]]
        assert value == CHECKOUT | {"cart": lines, "invoiceId": invoice_id}

        pay = f"{demo.simulator_url}/_sim/invoices/{invoice_id}/pay"
        paid = await asked("POST", pay, {"callback": True})
        assert paid["callback"] == {"status": 200, "body": "SUCCESS"}
        session = await session_of(demo, session_id)
        assert (session["status"], session["exceptions"], session["orders"]) == ("PENDING", ["handed_over"], [])
        assert session["held"] == "47000.00"
        assert json.loads(await redis.get(f"payment-session:{session_id}")) == value, "the service leaves it alone"

        code, report, _ = await tulbur(env, "--json")
        assert (code, done(report)) == (1, {"paid after it was handed over: take it back": 1})
        code, report, _ = await tulbur(env, "--take-back", session_id, "--no-orders-there", "--json")
        assert (code, done(report)) == (0, {"taken back, orders made now": 1})
        left = await redis.get(f"payment-session:{session_id}")
        assert left is None or left[:1] == b"\x01"
    session = await session_of(demo, session_id)
    assert (session["status"], session["exceptions"]) == ("PAID", [])
    assert sorted((o["shop_id"], o["total"]) for o in session["orders"]) == [("s1", "27000.00"), ("s2", "20000.00")]
    code, shown, _ = await tulbur(env, "--take-back", "--no-orders-there")
    assert (code, "0 rows read; the sums balance" in shown) == (0, True)


async def test_what_is_typed_wrongly_is_a_sentence(demo: Demo, env: dict[str, str]) -> None:
    session_id, _ = await seeded(demo)
    nowhere = {name: value for name, value in env.items() if "REDIS" not in name}
    for arguments, without, word in (
        ((), True, "REDIS_URL"),
        (("--take-back", session_id), False, "--no-orders-there"),
        (("--no-orders-there",), False, "--take-back"),
        (("--redis", "http://u:hidden-word@h"), False, "not an address"),
        (("--take-back", "--from", "oracle://u:hidden-word@h/d"), False, "--from takes"),
    ):
        code, out, err = await tulbur(nowhere if without else env, *arguments)
        assert (code, word in err, "hidden-word" in err + out) == (2, True, False), err
    code, _, err = await tulbur(env, "--redis", "redis://u:hidden-word@127.0.0.1:9/0")
    assert (code, "does not answer" in err, "hidden-word" in err) == (1, True, False)
    code, _, err = await tulbur(env, "nobody")
    assert (code, "no such session" in err) == (1, True)
    assert (await session_of(demo, session_id))["status"] == "PENDING"
