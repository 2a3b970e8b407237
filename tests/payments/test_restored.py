"""Yesterday's backup takes the place of the database: what a shop is told after it, and what an operator is."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.payments.world import Clock

from proving.killing import Shop
from proving.qpay import SmallQPay
from tulbur.core.session import Micros, Reason, Session, Status
from tulbur.payments.certifying import number_before
from tulbur.payments.sweeping import recover
from tulbur.ports import MOST_ROWS
from tulbur.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    clock = Clock()
    made = Shop(SqliteStore(tmp_path / "t.db", clock), clock, SmallQPay(clock))
    await made.store.start()
    yield made
    await made.store.stop()


def backup(folder: Path) -> None:
    with sqlite3.connect(folder / "t.db") as source, sqlite3.connect(folder / "backup.db") as target:
        source.backup(target)
    source.close()
    target.close()


async def restored(shop: Shop, folder: Path) -> None:
    await shop.store.stop()
    for file in folder.glob("t.db*"):
        file.unlink()
    (folder / "backup.db").rename(folder / "t.db")
    shop.store = SqliteStore(folder / "t.db", shop.clock)
    await shop.store.start()


async def told(shop: Shop) -> dict[str, str]:
    """What a shop has heard so far, by the ids it keeps."""
    while await shop.store.publish(MOST_ROWS):
        pass
    heard: dict[str, str] = {}
    while news := await shop.store.events(len(heard), MOST_ROWS):
        heard |= {one.event.id: one.event.type for one in news}
    return heard


async def opened(shop: Shop, folder: Path) -> tuple[Session, Micros]:
    """A session, and when the backup with it was made."""
    session = await shop.process().open(expires_in=600)
    backup(folder)
    return session, shop.clock()


async def test_a_shop_that_keeps_ids_hears_of_every_order_after_a_restore(shop: Shop, tmp_path: Path) -> None:
    session, since = await opened(shop, tmp_path)
    shop.clock.advance(60)
    await shop.process().payments.check(session.id, Reason.PAYER)
    await shop.at_rest(session.id)
    before = await told(shop)
    assert "session.expired" in before.values()
    await restored(shop, tmp_path)
    shop.qpay.pay(str(session.attempts[0].id))
    await recover(shop.process().payments.desk, since)
    assert (await shop.at_rest(session.id)).status is Status.PAID
    new = [type_ for id_, type_ in (await told(shop)).items() if id_ not in before]
    assert (new.count("order.created"), new.count("session.paid")) == (2, 1)


async def test_what_happens_again_after_a_restore_is_told_under_the_same_id(shop: Shop, tmp_path: Path) -> None:
    session, since = await opened(shop, tmp_path)
    shop.clock.advance(60)
    payment_id = shop.qpay.pay(str(session.attempts[0].id))
    await shop.process().payments.callback(session.id, payment_id)
    before = await told(shop)
    await restored(shop, tmp_path)
    await recover(shop.process().payments.desk, since)
    assert (await shop.stored(session.id)).status is Status.PAID
    assert await told(shop) == before


async def test_readers_of_events_are_told_how_far_to_go_back(shop: Shop) -> None:
    for _ in range(150):
        await shop.process().open()
    before = await told(shop)
    shop.clock.advance(60)
    since = shop.clock()
    await shop.process().open()
    await told(shop)
    number = await number_before(shop.process().payments.desk, since)
    assert 0 < number <= len(before)
