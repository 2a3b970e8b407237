"""A bad night: the service is killed again and again while people open, pay and QPay calls back, or does not."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.e2e.test_serving import KEY, Service, _free_port, serving

from tulbur.commands.demo import Demo, running

pytestmark = pytest.mark.anyio

PAYERS = 20
KILLS = 2
ITEMS = [{"shop_id": shop, "product_id": "p", "quantity": 1, "unit_price": "500"} for shop in ("a", "b")]


@dataclass
class Night:
    """What happened; `paid` are the sessions whose payment QPay took."""

    rng: random.Random
    paid: list[str] = field(default_factory=list)
    heard: int = 0
    unheard: int = 0
    calm: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
async def qpay() -> AsyncIterator[Demo]:
    async with running() as demo:
        yield demo


async def test_every_payment_of_a_bad_night_has_its_orders(tmp_path: Path, qpay: Demo) -> None:
    night, port = Night(random.Random(20)), _free_port()
    url = f"http://127.0.0.1:{port}"
    async with asyncio.timeout(300), aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as http:
        killer = asyncio.create_task(_serve_and_kill(tmp_path, qpay, port, night))
        payers = (_pay(http, url, qpay, night, number) for number in range(PAYERS))
        await asyncio.gather(*payers)
        assert await killer == KILLS
        async with serving(tmp_path, qpay, port=port):
            while _without_orders(tmp_path, night):
                await asyncio.sleep(0.2)
    assert len(night.paid) == PAYERS
    assert night.heard, "no callback was answered"
    assert night.unheard, "no callback was lost"
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        payments = "SELECT count(*), count(DISTINCT session_id) FROM tulbur_payments"
        assert database.execute(payments).fetchone() == (PAYERS, PAYERS)
        sets = database.execute("SELECT count(*) FROM tulbur_orders GROUP BY session_id").fetchall()
        assert sets == [(len(ITEMS),)] * PAYERS


async def _serve_and_kill(folder: Path, qpay: Demo, port: int, night: Night) -> int:
    """Keep a service up until all have paid, except that it is killed at random moments; how often it was."""
    kills = 0
    while kills < KILLS:
        async with serving(folder, qpay, port=port) as service:
            await asyncio.sleep(night.rng.uniform(0.02, 0.3))
            await _kill(service)
            kills += 1
    async with serving(folder, qpay, port=port):
        night.calm.set()
        while len(night.paid) < PAYERS:
            await asyncio.sleep(0.05)
    return kills


async def _kill(service: Service) -> None:
    with contextlib.suppress(ProcessLookupError):
        await service.stop(signal.SIGKILL)


async def _pay(http: aiohttp.ClientSession, url: str, qpay: Demo, night: Night, number: int) -> None:
    await asyncio.sleep(night.rng.uniform(0, 3))
    session = await _open(http, url, number)
    if number % 4 == 1:
        # Whatever the others meet, these are heard.
        await night.calm.wait()
    body = {"callback": number % 5 != 0}
    async with http.post(f"{qpay.simulator_url}/_sim/invoices/{session['invoice']['id']}/pay", json=body) as answer:
        callback = (await answer.json())["callback"]
    night.paid.append(session["id"])
    if callback and callback["body"] == "SUCCESS":
        night.heard += 1
    else:
        night.unheard += 1


async def _open(http: aiohttp.ClientSession, url: str, number: int) -> dict[str, Any]:
    """Open as a shop does: with one key, again until it is answered; a session that ran out meanwhile is replaced."""
    body = {"user_id": f"u{number}", "amount": "1000", "items": ITEMS, "expires_in": 6}
    replaced = 0
    while True:
        headers = KEY | {"Idempotency-Key": f"cart-{number}-{replaced}"}
        with contextlib.suppress(aiohttp.ClientError):
            async with http.post(f"{url}/v1/sessions", json=body, headers=headers) as answer:
                session: dict[str, Any] = await answer.json()
                assert answer.status in (201, 409, 502, 503), session
                if answer.status == 201 and session["invoice"]:
                    return session
                replaced += answer.status == 201
        await asyncio.sleep(0.1)


def _without_orders(folder: Path, night: Night) -> list[str]:
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        ordered = {row[0] for row in database.execute("SELECT DISTINCT session_id FROM tulbur_orders")}
    return [session_id for session_id in night.paid if session_id not in ordered]
