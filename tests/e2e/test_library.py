"""tulbur as a library, as a shop's own application uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import aiohttp
import httpx2
import pytest
from fastapi import FastAPI

from tulbur import Settings, Tulbur, wiring
from tulbur.commands import sweeping
from tulbur.commands.demo import demo_settings, running
from tulbur.errors import AlreadyPaid, AmountMismatch, Invalid, NotFound, SettingsError

pytestmark = pytest.mark.anyio

ITEMS = [
    {"shop_id": "s1", "product_id": "p1", "title": "Цай", "quantity": 2, "unit_price": "15000"},
    {"shop_id": "s2", "product_id": "p2", "title": "Аяга", "quantity": 1, "unit_price": 20000},
]


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings of a shop whose QPay is a simulator; the demo around it is only there for that simulator."""
    async with running() as demo:
        yield demo_settings(tmp_path, base_url="http://127.0.0.1:9", simulator_url=demo.simulator_url, api_key="k")


async def _pay(settings: Settings, invoice_id: str) -> str:
    url = f"{settings.qpay_base_url}/_sim/invoices/{invoice_id}/pay"
    async with aiohttp.ClientSession() as http, http.post(url, json={"callback": False}) as answer:
        return str((await answer.json())["payment_id"])


async def test_open_check_paid(settings: Settings) -> None:
    async with Tulbur(settings) as t:
        session = await t.open(user_id="u1", amount="50000", items=ITEMS, idempotency_key="cart-1")
        assert session.status == "PENDING"
        assert session.amount == Decimal(50000)
        assert session.invoice is not None
        again = await t.open(user_id="u1", amount="50000", items=ITEMS, idempotency_key="cart-1")
        assert again.id == session.id
        await _pay(settings, session.invoice.id)
        paid = await t.check(session.id)
        assert paid.status == "PAID"
        assert [(order.shop_id, order.total) for order in paid.orders] == [("s1", 30000), ("s2", 20000)]
        assert (await t.get(session.id)).orders == paid.orders
        with pytest.raises(AlreadyPaid):
            await t.cancel(session.id)


async def test_cancel(settings: Settings) -> None:
    async with Tulbur(settings) as t:
        session = await t.open(user_id="u1", amount=1000)
        assert (await t.cancel(session.id)).status == "CANCELLED"


async def test_what_is_wrong_is_said_by_its_error(settings: Settings) -> None:
    async with Tulbur(settings) as t:
        with pytest.raises(AmountMismatch):
            await t.open(user_id="u1", amount="50001", items=ITEMS)
        with pytest.raises(Invalid):
            await t.open(user_id="u1", amount="0.50")
        with pytest.raises(Invalid):
            await t.open(user_id="", amount="50000", no_such_field=1)
        with pytest.raises(NotFound):
            await t.get("nobody")


async def test_started_again_it_knows_what_it_knew(settings: Settings) -> None:
    t = Tulbur(settings)
    await t.start()
    session = await t.open(user_id="u1", amount="50000")
    await t.stop()
    await t.stop()
    await t.start()
    assert (await t.get(session.id)).id == session.id
    await t.stop()


async def test_mounted_in_another_application(settings: Settings) -> None:
    t = Tulbur(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with t:
            yield

    shop = FastAPI(lifespan=lifespan)
    shop.mount("/pay-service", t.asgi)
    transport = httpx2.ASGITransport(app=shop)
    async with lifespan(shop), httpx2.AsyncClient(transport=transport, base_url="http://shop") as http:
        headers = {"Authorization": "Bearer k"}
        opened = await http.post("/pay-service/v1/sessions", json={"user_id": "u", "amount": 500}, headers=headers)
        assert opened.status_code == 201
        session = opened.json()
        payment_id = await _pay(settings, session["invoice"]["id"])
        path = t.links.callback_url(session["id"]).removeprefix("http://127.0.0.1:9")
        answer = await http.get(f"/pay-service{path}", params={"qpay_payment_id": payment_id})
        assert (answer.status_code, answer.text) == (200, "SUCCESS")
        page = await http.get(f"/pay-service{session['checkout_url'].removeprefix('http://127.0.0.1:9')}")
        assert page.status_code == 200
        assert (await t.get(session["id"])).status == "PAID"


async def test_money_whose_callback_is_lost_is_found_at_the_deadline(settings: Settings) -> None:
    async with Tulbur(settings) as t:
        session = await t.open(user_id="u1", amount="50000", expires_in=1)
        assert session.invoice is not None
        await _pay(settings, session.invoice.id)
        async with asyncio.timeout(15):
            while (await t.get(session.id)).status != "PAID":
                await asyncio.sleep(0.05)


async def test_two_of_them_on_one_database_make_one_order_set(settings: Settings) -> None:
    async with Tulbur(settings, alone=False) as one, Tulbur(settings, alone=False) as two:
        session = await one.open(user_id="u1", amount="50000", items=ITEMS)
        assert session.invoice is not None
        payment_id = await _pay(settings, session.invoice.id)
        results = await asyncio.gather(*(t.payments.callback(session.id, payment_id) for t in (one, two) * 8))
        assert "paid" in results
        assert len((await two.get(session.id)).orders) == 2


def test_a_missing_setting_names_itself() -> None:
    with pytest.raises(SettingsError, match="PUBLIC_URL is not set"):
        Tulbur(Settings(_env_file=None))


async def test_a_defect_ends_no_counting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wiring, "FLUSH_SECONDS", 0.01)
    t = Tulbur(settings)
    tried = asyncio.Event()
    tally = t.store.tally

    async def broken(now: int, loads: Mapping[str, int]) -> None:
        monkeypatch.setattr(t.store, "tally", tally)
        tried.set()
        raise RuntimeError("a defect")

    monkeypatch.setattr(t.store, "tally", broken)
    async with t, asyncio.timeout(15):
        t.telemetry.loaded("s", "database")
        await tried.wait()
        while not (await t.store.stats(wiring.now())).loads:
            await asyncio.sleep(0.01)
    assert "counting failed" in caplog.messages


async def test_work_without_an_end_holds_the_end_up_for_so_long_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a sweep of ninety days: it may be killed at any moment, so it may be given up."""
    monkeypatch.setattr(wiring, "STOP_SECONDS", 0.05)
    monkeypatch.setattr("tulbur.worker.sweeping.SWEEP_SECONDS", 0)
    t = Tulbur(settings)
    begun = asyncio.Event()

    async def sweeping() -> None:
        begun.set()
        await asyncio.Event().wait()

    assert t.sweeper
    monkeypatch.setattr(t.sweeper, "once", sweeping)
    async with asyncio.timeout(15):
        await t.start()
        await begun.wait()
        await t.stop()


async def test_a_day_is_proved_though_no_worker_has_numbered_its_events(settings: Settings) -> None:
    async with Tulbur(settings) as t:
        session = await t.open(user_id="u1", amount=1000)
        assert session.invoice is not None
        await _pay(settings, session.invoice.id)
        assert (await t.check(session.id)).status == "PAID"
        async with aiohttp.ClientSession() as http, http.post(f"{settings.qpay_base_url}/_sim/reset") as answer:
            assert answer.status == 200
        stored = await t.payments.desk.stored(session.id)
        day = sweeping.local(stored.payments[0].seen_at)[:10]
        (difference,) = (await sweeping.prove(t, day)).differences
        assert difference.what == "recorded here, and not listed by QPay"
        assert (await t.store.stats(t.payments.desk.clock())).events_undelivered == 0, "nobody is to be sent these"
