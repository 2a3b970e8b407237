"""MongoDB that loses answers, hangs, dies, or has other transactions in the way: all of it for real."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from tests.proxy import How
from tests.stores.mongo_world import disturbed, raw, started

from testbed.plugin import TestServers
from testbed.servers import Server
from tulbur.core.session import Session
from tulbur.errors import CommitUnknown, StoreUnavailable
from tulbur.ports import Committed, Store
from tulbur.stores import mongo_migrate
from tulbur.stores.contracts.samples import NOW, added, answered, called_back, invoiced, paid, session, told
from tulbur.stores.mongo_schema import SESSIONS

pytestmark = [pytest.mark.anyio, pytest.mark.store("mongodb")]

COMMIT, ABORT = b"commitTransaction", b"abortTransaction"
OFTEN = 10_000


@pytest.fixture
def url(servers: TestServers) -> Iterator[str]:
    made = servers.url("mongodb")
    mongo_migrate.up(made)
    yield made
    servers.drop("mongodb", made)


async def one_order_set(store: Store, after: Session) -> None:
    assert await store.get(after.id) == after.committed()
    assert (await store.stats(NOW)).orders == len(after.orders) == 2
    assert (await told(store, after.id)).count("session.paid") == 1


@pytest.mark.parametrize("how", ["cut", "hang"])
@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("marker", [b"tulbur_sessions", b"tulbur_payments", b"tulbur_orders", b"tulbur_events", COMMIT])
async def test_a_lost_answer_to_any_statement_makes_one_order_set(
    url: str, marker: bytes, how: How, executed: bool
) -> None:
    async with disturbed(url, seconds=1.5) as (store, proxy):
        before = await invoiced(store)
        after = answered(before, "pay-1")
        proxy.lose(marker, executed=executed, how=how)
        result = await store.commit(before, after)
        assert proxy.lost == 1
        assert result is Committed.WON
        await one_order_set(store, after)


@pytest.mark.parametrize("executed", [True, False])
async def test_a_commit_that_is_never_answered_is_unknown_and_not_guessed(url: str, executed: bool) -> None:
    async with disturbed(url, seconds=0.6) as (store, proxy), started(url) as other:
        before = await invoiced(store)
        after = answered(before, "pay-1")
        proxy.lose(COMMIT, executed=executed, times=OFTEN)
        with pytest.raises(CommitUnknown):
            await store.commit(before, after)
        assert proxy.lost > 1
        assert await other.get("s-1") == (after.committed() if executed else before)
        # Whoever asks again, as the use cases do, gets one order set.
        result = await other.commit(before, after)
        assert result is (Committed.LOST if executed else Committed.WON)
        await one_order_set(other, after)


async def test_an_addition_whose_answer_was_lost_is_no_second_session(url: str) -> None:
    async with disturbed(url) as (store, proxy):
        proxy.lose(COMMIT)
        await store.add(session(scope="a", idempotency_key="k"))
        assert proxy.lost == 1
        assert await told(store, "s-1") == ["session.opened"]


async def test_a_server_that_hangs_is_unavailable_in_time_and_used_again(url: str) -> None:
    async with disturbed(url, seconds=0.6) as (store, proxy):
        before = await invoiced(store)
        proxy.hanging = True
        async with asyncio.timeout(10):
            with pytest.raises(StoreUnavailable):
                await store.get("s-1")
            with pytest.raises(StoreUnavailable):
                await store.commit(before, called_back(before))
        proxy.hanging = False
        proxy.cut()
        assert await store.get("s-1") == before


@pytest.mark.parametrize("commits", [False, True])
async def test_a_transaction_in_the_way_is_waited_for(url: str, commits: bool) -> None:
    async with disturbed(url, ABORT) as (store, proxy), raw(url) as database:
        before = await invoiced(store)
        async with database.client.start_session() as other:
            await other.start_transaction()
            await database[SESSIONS].update_one({"_id": "s-1"}, {"$inc": {"version": 1}}, session=other)
            task = asyncio.create_task(store.commit(before, called_back(before)))
            await proxy.saw(ABORT, 3)  # as often was it begun again
            assert not task.done()
            await (other.commit_transaction() if commits else other.abort_transaction())
        assert await task is (Committed.LOST if commits else Committed.WON)


async def test_a_transaction_that_stays_in_the_way_is_given_up(url: str) -> None:
    async with started(url, seconds=0.3) as store, started(url) as patient, raw(url) as database:
        before = await invoiced(store)
        async with database.client.start_session() as other:
            await other.start_transaction()
            await database[SESSIONS].update_one({"_id": "s-1"}, {"$set": {"lease_owner": "x"}}, session=other)
            with pytest.raises(StoreUnavailable, match="busy"):
                await store.commit(before, called_back(before))
            await other.abort_transaction()
        assert await patient.get("s-1") == before
        assert await store.commit(before, called_back(before)) is Committed.WON


async def test_a_cancelled_caller_leaves_nothing_half_done(url: str) -> None:
    async with started(url) as store:
        for turns in range(0, 60, 3):
            id_ = f"s-{turns}"
            before = await invoiced(store, id_)
            after = answered(before, f"pay-{turns}")
            task = asyncio.create_task(store.commit(before, after))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # What was begun comes to its end by itself, and the next commit meets no transaction that stayed open.
            again = await store.commit(before, after)
            stored = await store.get(id_)
            assert again in (Committed.WON, Committed.LOST)
            assert stored == after.committed()
            assert [await store.order(order.id) for order in after.orders] == [(id_, order) for order in after.orders]


async def test_cancelled_reads_mix_no_answers_up(url: str) -> None:
    async with started(url) as store:
        stored = {f"s-{n}": await added(store, f"s-{n}") for n in range(5)}
        for turns in range(25):
            tasks = [asyncio.create_task(store.get(id_)) for id_ in stored]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert {id_: await store.get(id_) for id_ in stored} == stored


async def test_stopping_waits_for_what_is_under_way(url: str) -> None:
    async with started(url) as store:
        before = await invoiced(store)
        task = asyncio.create_task(store.commit(before, answered(before, "pay-1")))
        while not store._link._running:
            await asyncio.sleep(0)
        await store.stop()
        assert await task is Committed.WON


async def test_too_many_calls_are_refused_and_not_queued_for_ever(url: str) -> None:
    async with started(url) as store:
        before = await invoiced(store)
        store._link._most_waiting = 0
        with pytest.raises(StoreUnavailable, match="too many"):
            await store.commit(before, called_back(before))


async def test_a_killed_server_loses_nothing_that_was_answered(own_server: Callable[[str], Server]) -> None:
    server = own_server("mongodb")
    url = server.url()
    mongo_migrate.up(url)
    async with started(f"{url}&serverSelectionTimeoutMS=300", seconds=3) as store:
        first = await paid(store)
        busy = [asyncio.create_task(invoiced(store, f"s-{n}")) for n in range(10, 30)]
        await asyncio.sleep(0)
        await asyncio.to_thread(server.kill)
        results = await asyncio.gather(*busy, return_exceptions=True)
        assert any(isinstance(result, StoreUnavailable) for result in results), "the kill came too late"
        with pytest.raises(StoreUnavailable):
            await store.get("s-1")
        await asyncio.to_thread(server.start)
        assert await store.get("s-1") == first
        for result in results:
            if isinstance(result, Session):
                assert await store.get(result.id) == result
            else:
                assert isinstance(result, StoreUnavailable), result
        assert await store.commit(first, called_back(first)) is Committed.WON
