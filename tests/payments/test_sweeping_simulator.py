"""The sweep over a socket: QPay's own paging, its broken pages, and a worker that does it by itself."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from tests.payments.world import World

from tulbur.core.certificate import Certificate
from tulbur.core.schedule import DAY
from tulbur.core.session import SECOND, Session, Status
from tulbur.errors import ProviderUnavailable
from tulbur.payments.certifying import prove
from tulbur.payments.sweeping import sweep
from tulbur.simulator.state import Money
from tulbur.worker import Sweeper

pytestmark = pytest.mark.anyio

HOUR = 3600 * SECOND


async def expired(w: World) -> Session:
    session = await w.open(expires_in=60)
    w.clock.advance(61)
    await w.worker.once()
    assert (await w.stored(session.id)).status is Status.EXPIRED
    return session


async def certificate(w: World, hours: int = 2) -> Certificate:
    await w.worker.once()
    return await prove(w.payments.desk, w.clock() - hours * HOUR, w.clock() + SECOND)


async def unanswered(w: World, invoice_id: str) -> None:
    with pytest.raises(ProviderUnavailable):
        await w.qpay.check(invoice_id)


def crowd(w: World, count: int, spread: float = 3600) -> None:
    """Payments on one invoice code that are somebody else's, in the hour before now."""
    ledger = w.simulator.ledger
    first = w.invoices()[0]
    for number in range(count):
        at = w.clock() / SECOND - spread + number * spread / count
        if number % 100 == 0:
            invoice = ledger.add(
                first.merchant, replace(first.form, sender_invoice_no=f"WEB-{number}"), at, unique=False
            )
        ledger.pay(invoice, Money(Decimal(10)), at)


async def test_90_days_late_and_every_callback_lost(w: World) -> None:
    sessions = [await expired(w) for _ in range(3)]
    w.clock.advance(90 * 86_400)
    for session in sessions:
        await w.pay(session)
    w.clock.advance(1_200)
    sweeper = Sweeper(w.payments, owner="s")
    w.clock.advance(601)
    await sweeper.once()
    for session in sessions:
        stored = await w.stored(session.id)
        assert stored.status is Status.PAID
        assert len(stored.orders) == 2
        assert [e.value for e in stored.exceptions] == ["late"]
    assert await w.requests("payment/list") == 3
    assert (await certificate(w)).proven


@pytest.mark.parametrize("count", [150, 1_050])
async def test_among_many_rows_ours_is_found(w: World, count: int) -> None:
    session = await expired(w)
    crowd(w, count)
    await w.pay(session)
    w.clock.advance(10)
    (run,) = await sweep(w.payments.desk, w.clock() - 2 * HOUR, w.clock(), "operator")
    assert run.report["listed"] == count + 1
    assert (run.report["settled"], run.report["seen"], run.report["foreign"]) == (1, "all", count)
    assert (await w.stored(session.id)).status is Status.PAID
    found = await certificate(w)
    assert found.proven, found.differences[:3]
    assert found.foreign == count


async def test_a_busy_list_is_read_in_smaller_pages(w: World) -> None:
    session = await expired(w)
    await w.pay(session)
    w.clock.advance(10)
    await w.faults(reply={"payment_list": {"status": 500, "body": {"error": "SYSTEM_BUSY"}, "times": 2}})
    (run,) = await sweep(w.payments.desk, w.clock() - HOUR, w.clock(), "operator")
    assert (run.report["settled"], run.report["seen"]) == (1, "all")


async def test_a_list_that_stays_busy_is_on_record_and_holds_no_check_back(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session)
    await w.faults(reply={"payment_list": {"status": 500, "body": {"error": "SYSTEM_BUSY"}}})
    (run,) = await sweep(w.payments.desk, w.clock() - HOUR, w.clock(), "operator")
    assert run.report["seen"] == "not all"
    assert not run.complete
    assert not (await certificate(w)).proven
    assert await w.payments.callback(session.id, payment_id) == "paid"


async def test_an_outage_of_qpays_is_caught_up_with(w: World) -> None:
    session = await expired(w)
    sweeper = Sweeper(w.payments, owner="s")
    w.clock.advance(601)
    await sweeper.once()
    until = await w.store.swept_until()
    assert until is not None
    w.clock.advance(1_000)
    await w.faults(reply={"payment_check": {"status": 502, "body": "<html>"}})
    other = await w.open()
    for _ in range(6):
        await unanswered(w, str(other.attempts[0].id))
    assert not w.qpay.answering()
    await sweeper.once()
    await w.pay(session)
    await w.faults()
    w.clock.advance(600)
    await sweeper.once()
    (run,) = await w.store.sweeps(1)
    assert run.reason == "catch_up"
    assert (await w.stored(session.id)).status is Status.PAID


async def test_the_daily_sweep_comes_once_a_day(w: World) -> None:
    sweeper = Sweeper(w.payments, owner="s")
    for _ in range(4 * 24 * 2):
        w.clock.advance(1_800)
        await sweeper.once()
    runs = [run for run in await w.store.sweeps(100) if run.end - run.start <= DAY + HOUR]
    days = {run.started_at // DAY for run in runs}
    assert len(days) in (4, 5)
    assert await w.requests("payment/list") == len(await w.store.sweeps(100))
    assert all(run.complete for run in runs)
