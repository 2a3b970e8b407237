"""Over real HTTP against SQLite: many repeats of one callback at once are one order set."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tulbur.commands.demo import Demo, running

pytestmark = pytest.mark.anyio

TIMES = 64
ITEM = {"shop_id": "s1", "product_id": "p1", "title": "Цай", "quantity": 2, "unit_price": "25000"}


async def test_64_repeats_of_one_callback_at_once_are_one_order_set(tmp_path: Path) -> None:
    async with running(data=tmp_path) as demo, aiohttp.ClientSession() as http:
        session = await _open(http, demo)
        payment_id = await _pay(http, demo, session["invoice"]["id"])
        url = demo.tulbur.links.callback_url(session["id"]) + f"?qpay_payment_id={payment_id}"
        start = asyncio.Event()

        async def call() -> tuple[int, str]:
            await start.wait()
            async with http.get(url) as answer:
                return answer.status, await answer.text()

        calls = [asyncio.create_task(call()) for _ in range(TIMES)]
        start.set()
        assert Counter(await asyncio.gather(*calls)) == {(200, "SUCCESS"): TIMES}
        async with http.get(f"{demo.base_url}/v1/orders?session_id={session['id']}", headers=_key(demo)) as answer:
            assert len((await answer.json())["items"]) == 1
    with sqlite3.connect(tmp_path / "demo.db") as database:
        assert database.execute("SELECT count(*) FROM tulbur_orders").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM tulbur_payments").fetchone() == (1,)
        paid = "SELECT count(*) FROM tulbur_events WHERE type = 'session.paid'"
        assert database.execute(paid).fetchone() == (1,)
    database.close()


async def _open(http: aiohttp.ClientSession, demo: Demo) -> dict[str, dict[str, str]]:
    body = {"user_id": "u1", "amount": "50000", "items": [ITEM]}
    async with http.post(f"{demo.base_url}/v1/sessions", json=body, headers=_key(demo)) as answer:
        assert answer.status == 201, await answer.text()
        return await answer.json()


async def _pay(http: aiohttp.ClientSession, demo: Demo, invoice_id: str) -> str:
    url = f"{demo.simulator_url}/_sim/invoices/{invoice_id}/pay"
    async with http.post(url, json={"callback": False}) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["payment_id"])


def _key(demo: Demo) -> dict[str, str]:
    return {"Authorization": f"Bearer {demo.api_key}"}
