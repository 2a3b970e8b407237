"""Cleaning that dies, fails or loses an answer at each call of a port: the next run ends what it began."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.payments.test_kills import table
from tests.payments.world import Clock

from proving.killing import Killer, Shop, SmallQPay, ended
from proving.laws import money
from tulbur.core.session import InvoiceState, Session, Status
from tulbur.payments.cleaning import Keep, clean
from tulbur.stores.memory import MemoryStore
from tulbur.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

DAY = 86_400_000_000


@pytest.fixture(params=["memory", "sqlite"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    clock = Clock()
    store = MemoryStore(clock) if request.param == "memory" else SqliteStore(tmp_path / "t.db", clock)
    await store.start()
    yield Shop(store, clock, SmallQPay(clock))
    await store.stop()


async def no_pause() -> None:
    await asyncio.sleep(0)


async def finished(shop: Shop) -> tuple[Session, Session]:
    """One that was paid, and one that expired with its invoice open; everybody has been told."""
    process = shop.process()
    paid, gone = [await process.open(expires_in=600) for _ in range(2)]
    shop.qpay.pay(str(paid.attempts[0].id))
    await process.payments.callback(paid.id, shop.bills(paid)[0].payments[0].id)
    made = (await shop.at_rest(paid.id), await shop.at_rest(gone.id))
    assert [one.status for one in made] == [Status.PAID, Status.EXPIRED]
    await shop.store.publish(200, deliver=False)
    return made


async def test_cleaning_dies_and_is_done_by_the_next(shop: Shop) -> None:
    async def run(killer: Killer) -> None:
        before = await finished(shop)
        shop.clock.now += 91 * DAY
        await ended(clean(shop.process(killer).payments.desk, Keep(), pause=no_pause))
        await clean(shop.process().payments.desk, Keep(), pause=no_pause)
        for one in before:
            after = await shop.stored(one.id)
            await shop.judge(after)
            assert after.blanked_at is not None
            assert (after.items, after.shipping) == ((), {})
            assert (money(after), after.orders) == (money(one), one.orders)
            assert all(attempt.state is not InvoiceState.OPEN for attempt in after.attempts)
            assert not shop.open_bills(after)
            told = [event.type for event in await shop.store.history(one.id, 200)]
            assert told.count("session.blanked") == 1

    await table(run)


async def test_money_that_comes_while_cleaning_dies_is_found(shop: Shop) -> None:
    async def run(killer: Killer) -> None:
        _, gone = await finished(shop)
        shop.clock.now += 91 * DAY
        shop.qpay.pay(str(gone.attempts[0].id))
        await ended(clean(shop.process(killer).payments.desk, Keep(), pause=no_pause))
        await clean(shop.process().payments.desk, Keep(), pause=no_pause)
        after = await shop.at_rest(gone.id)
        assert (after.status, len(after.orders)) == (Status.PAID, 2), "it is not blanked: the cart is there"

    await table(run)
