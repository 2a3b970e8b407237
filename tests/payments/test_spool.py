"""Callbacks while the database is away: answered only when they are durable, replayed in order, and once to effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.payments.conftest import STORES, empty_store_on
from tests.payments.test_kills import AFTER, paid_session, table
from tests.payments.world import KEYS, Clock

from proving.killing import Fault, Killer, Process, Shop, SmallQPay, ended
from tulbur.core.session import Status
from tulbur.errors import SourceUnavailable, StoreUnavailable
from tulbur.payments.spooling import MOST_LOOKS
from tulbur.spool import FileSpool
from tulbur.stores.memory import MemoryStore
from tulbur.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def shop_on(folder: Path, store: Any, clock: Clock) -> AsyncIterator[Shop]:
    spool = FileSpool(folder, KEYS)
    await store.start()
    await spool.start()
    yield Shop(store, clock, SmallQPay(clock), spool=spool)
    await spool.stop()
    await store.stop()


@pytest.fixture(params=STORES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    clock = Clock()
    store = await empty_store_on(request, tmp_path, clock)
    async with shop_on(tmp_path / "spool", store, clock) as made:
        yield made


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Shop]:
    clock = Clock()
    async with shop_on(tmp_path / "spool", MemoryStore(clock), clock) as made:
        yield made


async def waiting(shop: Shop) -> list[str]:
    assert shop.spool
    return [one.payment_id for one in await shop.spool.waiting(100)]


async def spooled(shop: Shop, session_id: str, *payment_ids: str) -> None:
    shop.away = True
    process = shop.process()
    for payment_id in payment_ids:
        assert await process.payments.callback(session_id, payment_id) == "spooled"
        shop.clock.advance(0.001)
    shop.away = False


async def replayed(process: Process) -> None:
    assert process.replayer
    await process.replayer.once()
    await process.payments.stop()


async def payment_of(shop: Shop, session_id: str) -> str:
    (bill,) = shop.bills(await shop.stored(session_id))
    return bill.payments[0].id


async def test_a_callback_without_a_database_becomes_its_orders_when_it_is_back(shop: Shop) -> None:
    session_id = await paid_session(shop)
    payment_id = await payment_of(shop, session_id)
    await spooled(shop, session_id, payment_id)
    process = shop.process()
    await replayed(process)
    stored = await shop.stored(session_id)
    assert (stored.status, len(stored.orders)) == (Status.PAID, 2)
    assert await waiting(shop) == []
    assert process.heard.loads == ["database"], "it is counted once, when it is heard"
    await spooled(shop, session_id, payment_id, payment_id)
    await replayed(shop.process())
    assert await shop.stored(session_id) == stored
    await shop.judge(stored)


async def test_without_a_spool_there_is_no_success(shop: Shop) -> None:
    session_id = await paid_session(shop)
    shop.spool, shop.away = None, True
    with pytest.raises(StoreUnavailable):
        await shop.process().payments.callback(session_id, "p1")


async def test_a_callback_that_names_no_payment_is_kept_too(shop: Shop) -> None:
    session_id = await paid_session(shop)
    await spooled(shop, session_id, "")
    await replayed(shop.process())
    assert (await shop.stored(session_id)).status is Status.PAID


async def test_while_the_database_is_away_every_file_stays(shop: Shop) -> None:
    session_id = await paid_session(shop)
    await spooled(shop, session_id, "p1", "p2")
    shop.away = True
    process = shop.process()
    assert process.replayer
    with pytest.raises(StoreUnavailable):
        await process.replayer.once()
    assert await waiting(shop) == ["p1", "p2"]


async def test_hints_are_replayed_in_the_order_they_came(shop: Shop) -> None:
    session_id = (await shop.process().open(expires_in=600)).id
    ids = [f"p{number}" for number in (5, 3, 9, 1)]
    await spooled(shop, session_id, *ids)
    await replayed(shop.process())
    assert [hint.payment_id for hint in (await shop.stored(session_id)).hints] == ids


async def test_a_payment_of_nobody_is_one_unmatched_row_however_often_it_is_replayed(shop: Shop) -> None:
    await spooled(shop, "gone", "p1", "p1")
    await asyncio.gather(*(replayed(shop.process()) for _ in range(2)))
    assert [(row.payment_id, row.hinted_session_id) for row in await shop.store.unmatched(10)] == [("p1", "gone")]
    assert await waiting(shop) == []


# --- the kill table --------------------------------------------------------------------------------------------------


async def test_what_was_answered_is_ordered_wherever_a_process_ends(memory: Shop) -> None:
    """The database is there, but one call of any port strikes; the payer's callback is sent again only when unheard."""

    async def run(killer: Killer) -> None:
        session_id = await paid_session(memory)
        payment_id = await payment_of(memory, session_id)
        process = memory.process(killer)
        heard = await ended(process.payments.callback(session_id, payment_id))
        await process.payments.stop()
        if not isinstance(heard, str):
            assert await memory.process().payments.callback(session_id, payment_id)
        await replayed(memory.process())
        assert await waiting(memory) == []
        assert (await memory.at_rest(session_id)).status is Status.PAID

    await table(run)


@pytest.mark.parametrize("shop", STORES[:2], indirect=True)
async def test_nothing_is_lost_wherever_keeping_or_replaying_ends(shop: Shop) -> None:
    async def run(first: Killer, second: Killer) -> None:
        session_id = await paid_session(shop)
        payment_id = await payment_of(shop, session_id)
        shop.away = True
        heard = await ended(shop.process(first).payments.callback(session_id, payment_id))
        shop.away = False
        if heard == "spooled":
            assert payment_id in await waiting(shop), "law 5: SUCCESS is a promise"
        process = shop.process(second)
        await ended(replayed(process))
        if heard == "spooled":
            stored = await shop.stored(session_id)
            assert stored.hints or stored.orders or payment_id in await waiting(shop), (
                "law 5: until it is in the database"
            )
        if heard != "spooled":
            await shop.process().payments.callback(session_id, payment_id)
        shop.clock.advance(61)
        await replayed(shop.process())
        assert await waiting(shop) == []
        assert (await shop.at_rest(session_id)).status is Status.PAID

    await table(lambda killer: run(killer, Killer()))
    on_disk = isinstance(shop.store, SqliteStore)  # where a run takes ten times as long
    await table(lambda killer: run(Killer(), killer), AFTER if on_disk else tuple(Fault))


async def test_two_processes_that_replay_one_directory_make_one_order_set(memory: Shop) -> None:
    for seed in range(20):
        chance = Random(seed)
        session_id = await paid_session(memory)
        payment_id = await payment_of(memory, session_id)
        await spooled(memory, session_id, payment_id, "", payment_id, f"other-{seed}")
        killers = [Killer(chance.randrange(60), chance.choice(list(Fault)), pace=chance) for _ in range(2)]
        processes = [memory.process(killer) for killer in killers]
        await asyncio.gather(*(ended(replayed(process)) for process in processes))
        await asyncio.gather(*(ended(process.payments.stop()) for process in processes))
        memory.clock.advance(61)
        await replayed(memory.process())
        assert await waiting(memory) == []
        assert (await memory.at_rest(session_id)).status is Status.PAID


# --- one that fails blocks nobody ------------------------------------------------------------------------------------


class DeafShop:
    """An old shop whose Redis does not answer, until it does."""

    deaf = True

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def read(self, session_id: str) -> None:
        if self.deaf:
            raise SourceUnavailable

    def changed(self) -> Any:
        raise NotImplementedError


async def test_callbacks_that_cannot_be_replayed_yet_block_nobody(memory: Shop) -> None:
    old_shop = DeafShop()
    memory.old_shop = old_shop
    session_id = await paid_session(memory)
    await spooled(memory, "of-the-old-shop", *[""] * 7)
    await spooled(memory, session_id, await payment_of(memory, session_id))
    process = memory.process()
    assert process.replayer
    for _ in range(2):
        assert not await process.replayer.once()
    await process.payments.stop()
    assert (await memory.stored(session_id)).status is Status.PAID
    assert await waiting(memory) == [""] * 7
    assert not await process.replayer.once(), "each is put off"
    old_shop.deaf = False
    memory.clock.advance(2)
    await process.replayer.once()
    assert await waiting(memory) == []


async def test_a_defect_in_one_replay_blocks_nobody(memory: Shop, caplog: pytest.LogCaptureFixture) -> None:
    session_id = await paid_session(memory)
    await spooled(memory, session_id, "bad", await payment_of(memory, session_id))
    process = memory.process()
    hear = process.payments.hear

    async def broken(session_id: str, payment_id: str, seconds: float = 0) -> str:
        if payment_id == "bad":
            raise RuntimeError("a defect")
        return await hear(session_id, payment_id, seconds)

    process.payments.hear = broken  # type: ignore[method-assign]
    await replayed(process)
    assert (await memory.stored(session_id)).status is Status.PAID
    assert await waiting(memory) == ["bad"]
    assert "a replay failed" in caplog.messages


async def test_a_full_spool_does_not_storm_qpay(memory: Shop) -> None:
    sessions = [await paid_session(memory) for _ in range(3 * MOST_LOOKS)]
    for session_id in sessions:
        await spooled(memory, session_id, await payment_of(memory, session_id))
    under_way = most = 0
    answering = asyncio.Event()

    async def before(_: str) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await answering.wait()
        under_way -= 1

    memory.qpay.before = before
    replaying = asyncio.create_task(replayed(memory.process()))
    while len(await waiting(memory)) > 2 * MOST_LOOKS:
        assert not replaying.done()
    for _ in range(50):  # more than it takes to replay the others
        assert len(await waiting(memory)) == 2 * MOST_LOOKS, "the next one waits for QPay"
    answering.set()
    await replaying
    assert most == MOST_LOOKS
    for session_id in sessions:
        assert (await memory.stored(session_id)).status is Status.PAID


async def test_the_loop_ends_when_it_is_told(memory: Shop) -> None:
    process = memory.process()
    assert process.replayer
    loop = asyncio.create_task(process.replayer.run())
    await asyncio.sleep(0)
    process.replayer.stop()
    async with asyncio.timeout(5):
        await loop
