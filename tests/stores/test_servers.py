"""What is a database server's own: deadlocks, lost answers, dead connections, a bounded pool, cancelled callers."""

import asyncio
import gc
import random
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection
from sqlalchemy.util import await_only
from tests.stores.servers import SERVERS, checked_out, connected, emptied, in_transaction, one, started, waiting

from tulbur.errors import StoreUnavailable
from tulbur.stores import network
from tulbur.stores.contracts.samples import added, answered, invoiced, session, told
from tulbur.stores.network import NetworkStore

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Work = Callable[[Connection], T]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(migrated: Callable[[str], str], server: str) -> str:
    return migrated(server)


def touch(name: str) -> str:
    return f"UPDATE tulbur_leases SET until = until + 1 WHERE name = '{name}'"


async def leases(store: NetworkStore, *names: str) -> None:
    for name in names:
        assert await store.lease(name, "w", 0)


async def until_of(store: NetworkStore, name: str) -> int:
    return int(await store._read(one(f"SELECT until FROM tulbur_leases WHERE name = '{name}'")))


# --- the session with the server


async def test_every_session_is_what_we_rely_on(url: str, server: str) -> None:
    queries = {
        "postgres": {
            "SHOW transaction_isolation": "read committed",
            "SHOW timezone": "UTC",
            "SHOW statement_timeout": "0",
            "SHOW lock_timeout": "5s",
        },
        "mariadb": {
            "SELECT @@tx_isolation": "READ-COMMITTED",
            "SELECT @@time_zone": "+00:00",
            "SELECT @@character_set_client": "utf8mb4",
            "SELECT @@innodb_lock_wait_timeout": 5,
        },
    }
    async with emptied(url) as store:
        for run in (store._read, store._write):
            for query, value in queries[server].items():
                assert await run(one(query)) == value, query


async def test_what_is_too_long_is_refused_and_not_cut(url: str) -> None:
    async with emptied(url) as store:
        with pytest.raises(StoreUnavailable, match="it refused"):
            await store.lease("x" * 256, "w", 1)
        assert await store._read(one("SELECT count(*) FROM tulbur_leases")) == 0


async def test_a_database_error_is_told_without_its_data(url: str) -> None:
    async with emptied(url) as store:
        with pytest.raises(StoreUnavailable) as told_:
            await store._write(one("SELECT secret FROM tulbur_nothing WHERE a = 'hidden'"))
        assert "hidden" not in str(told_.value)
        assert "127.0.0.1" in str(told_.value)


# --- transactions that get in each other's way


async def test_a_deadlock_is_run_again_as_a_whole(url: str) -> None:
    async with emptied(url) as store:
        await leases(store, "a", "b")
        met = asyncio.Barrier(2)
        tries = []

        def crossing(first: str, second: str) -> Work[None]:
            def work(connection: Connection) -> None:
                tries.append(first)
                connection.exec_driver_sql(touch(first))
                if tries.count(first) == 1:
                    await_only(met.wait())
                connection.exec_driver_sql(touch(second))

            return work

        before = await until_of(store, "a")
        await asyncio.gather(store._write(crossing("a", "b")), store._write(crossing("b", "a")))
        assert len(tries) == 3
        assert await until_of(store, "a") == before + 2


async def test_a_serialization_failure_is_run_again(migrated: Callable[[str], str]) -> None:
    async with emptied(migrated("postgres")) as store:
        await leases(store, "a")
        before = await until_of(store, "a")
        tries = []

        def work(connection: Connection) -> None:
            tries.append(1)
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.exec_driver_sql("SELECT until FROM tulbur_leases").all()
            if len(tries) == 1:
                await_only(asyncio.ensure_future(store._write(one_statement(touch("a")))))
            connection.exec_driver_sql(touch("a"))

        await store._write(work)
        assert len(tries) == 2
        assert await until_of(store, "a") == before + 2


def one_statement(statement: str) -> Work[None]:
    return lambda connection: connection.exec_driver_sql(statement) and None


async def test_a_lock_is_waited_for_and_then_tried_again(url: str) -> None:
    async with emptied(url, lock_seconds=1) as store, emptied_not(url) as other:
        await leases(store, "a")
        before = await until_of(store, "a")
        held, release = asyncio.Event(), asyncio.Event()
        tries = []

        def hold(connection: Connection) -> None:
            connection.exec_driver_sql(touch("a"))
            held.set()
            await_only(release.wait())

        def work(connection: Connection) -> None:
            tries.append(1)
            if len(tries) == 2:
                release.set()
            connection.exec_driver_sql(touch("a"))

        holding = asyncio.create_task(other._write(hold))
        await held.wait()
        await store._write(work)
        await holding
        assert len(tries) == 2
        assert await until_of(store, "a") == before + 2


def emptied_not(url: str) -> Any:
    return started(NetworkStore(url))


async def test_a_lock_that_stays_is_unavailable(url: str) -> None:
    async with emptied(url, lock_seconds=1, answer_seconds=1.5) as store, emptied_not(url) as other:
        await leases(store, "a")
        held, release = asyncio.Event(), asyncio.Event()

        def hold(connection: Connection) -> None:
            connection.exec_driver_sql(touch("a"))
            held.set()
            await_only(release.wait())

        holding = asyncio.create_task(other._write(hold))
        await held.wait()
        with pytest.raises(StoreUnavailable, match="another process"):
            await store._write(one_statement(touch("a")))
        release.set()
        await holding


async def test_what_never_ends_well_ends(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with emptied(url) as store:
        await leases(store, "a")
        tries = []

        def work(connection: Connection) -> None:
            tries.append(1)
            connection.exec_driver_sql("INSERT INTO tulbur_leases VALUES ('a', 'w', 0)")

        monkeypatch.setattr(network, "PAUSE_SECONDS", 0)
        with pytest.raises(StoreUnavailable):
            await store._write(work)
        assert len(tries) == network.MOST_TRIES
        assert checked_out(store) == 0


# --- the pool, and cancelled callers


async def test_a_connection_is_waited_for_only_so_long(url: str) -> None:
    async with emptied(url), started(NetworkStore(url, pool_size=1, wait_seconds=0.05)) as store:
        release = asyncio.Event()
        holding = asyncio.create_task(store._read(waiting(release)))
        while not checked_out(store):
            await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="busy"):
            await store.get("s-1")
        release.set()
        await holding
        assert await store.get("s-1") is None


async def test_no_more_wait_than_allowed(url: str) -> None:
    async with emptied(url), started(NetworkStore(url, pool_size=1, most_waiting=3)) as store:
        release = asyncio.Event()
        calls = [asyncio.create_task(store._read(waiting(release))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="too many"):
            await store.get("s-1")
        release.set()
        await asyncio.gather(*calls)


async def test_cancelled_callers_leave_nothing_behind(url: str, server: str) -> None:
    chance = random.Random(1)
    async with emptied(url, pool_size=4) as store, connected(url) as other:
        befores = [await invoiced(store, f"s-{n}") for n in range(40)]
        tasks = [asyncio.create_task(store.commit(b, answered(b, f"pay-{b.id}"))) for b in befores]
        for task in tasks:
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(result, asyncio.CancelledError) for result in results)
        while store._tasks:
            await asyncio.wait(store._tasks)
        assert checked_out(store) == 0
        assert await in_transaction(server, other) == []
        for before in befores:
            stored = await store.get(before.id)
            assert stored
            assert bool(stored.orders) == (await store.by_payment(f"pay-{before.id}") is not None)
            assert len(await told(store, before.id)) == stored.event_count


async def test_a_mistake_inside_a_transaction_leaves_none_open(url: str, server: str) -> None:
    async with emptied(url) as store, connected(url) as other:

        def mistake(connection: Connection) -> None:
            connection.exec_driver_sql("DELETE FROM tulbur_leases")
            raise LookupError("a bug")

        with pytest.raises(LookupError):
            await store._write(mistake)
        assert checked_out(store) == 0
        assert await in_transaction(server, other) == []
        await added(store)


async def test_stopping_waits_for_the_work_under_way(url: str) -> None:
    async with emptied(url):
        store = NetworkStore(url)
        await store.start()
        await store.start()
        work = asyncio.create_task(store.add(session()))
        await asyncio.sleep(0)
        await store.stop()
        await work
        await store.stop()
        with pytest.raises(StoreUnavailable, match="not started"):
            await store.get("s-1")
    gc.collect()  # a connection left open would warn, and a warning is an error


def test_a_store_works_in_one_loop_after_another(url: str) -> None:
    store = NetworkStore(url)

    async def once(id_: str) -> None:
        async with started(store):
            await store._write(one_statement(f"DELETE FROM tulbur_leases WHERE name = '{id_}'"))
            assert await store.lease(id_, "w", 0)

    for id_ in ("loop-1", "loop-2"):
        asyncio.run(once(id_))
    gc.collect()
