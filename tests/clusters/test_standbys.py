"""PostgreSQL with two quorum-synchronous standbys: the contract, a failover under load, and commits that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.clusters.load import all_there, loaded
from tests.stores.servers import connected, started

from testbed.clusters.standbys import Standbys
from testbed.proxy import Proxy
from tulbur.errors import CommitUnknown
from tulbur.ports import Committed
from tulbur.stores import contract, migrate
from tulbur.stores.contracts.samples import NOW, answered, invoiced
from tulbur.stores.harnesses import NetworkHarness, empty
from tulbur.stores.network import NetworkStore

pytestmark = [pytest.mark.anyio, pytest.mark.clusters, pytest.mark.store(Standbys.name)]

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
MOST_STALL_SECONDS = 25


@pytest.fixture(scope="module")
def cluster(joined: Callable[[type[Standbys]], Standbys]) -> Standbys:
    return joined(Standbys)


@pytest.fixture(scope="module")
def url(cluster: Standbys) -> str:
    made = cluster.url()
    migrate.up(made)
    return made


class TestStoreWithStandbys(contract.StoreContract):
    @pytest.fixture(autouse=True)
    def _url(self, url: str) -> None:
        self.harness = NetworkHarness(url)


async def waiting(url: str, number: int) -> None:
    async with connected(url) as other, asyncio.timeout(20):
        while (await other.exec_driver_sql(_WAITING)).scalar() < number:
            await asyncio.sleep(0.02)


async def test_a_commit_without_a_standby_is_neither_won_nor_cancelled(cluster: Standbys, url: str) -> None:
    primary = f"127.0.0.1:{cluster.primary.port}"
    direct = url.replace(cluster.hosts(), primary)
    proxy = Proxy(direct)
    standbys = cluster.standbys()
    async with proxy.running(), started(NetworkStore(direct)) as calm:
        await calm._write(empty)
        before = await invoiced(calm)
        after = answered(before, "pay-1")
        async with started(NetworkStore(proxy.url(direct), answer_seconds=1.5, lock_seconds=1)) as store:
            for standby in standbys:
                await asyncio.to_thread(standby.kill)
            task = asyncio.create_task(store.commit(before, after))
            await waiting(direct, 1)
            assert not task.done()
            with pytest.raises(CommitUnknown):
                await task
            assert proxy.cancel_requests == 0
            # Nobody sees it, and it is still on its way.
            assert await calm.get("s-1") == before
            await waiting(direct, 1)
            for standby in standbys:
                await asyncio.to_thread(cluster.rejoin, standby)
            async with asyncio.timeout(20):
                while await calm.get("s-1") != after.committed():
                    await asyncio.sleep(0.02)
            assert await store.commit(before, after) is Committed.LOST
            assert (await store.stats(NOW)).orders == len(after.orders)


async def test_a_killed_primary_loses_nothing_that_was_acknowledged(
    cluster: Standbys, url: str, figure: Callable[[str, float], None]
) -> None:
    async with started(NetworkStore(url)) as store:
        await store._write(empty)
        async with loaded(store) as load:
            await load.more(50)
            killed = cluster.primary
            await asyncio.to_thread(killed.kill)
            promoted = await asyncio.to_thread(cluster.promote)
            assert promoted is not killed
            await load.more(50)
        assert load.errors, "the kill was not felt"
        assert load.stall < MOST_STALL_SECONDS
        figure("standbys: stall in seconds", load.stall)
        await all_there(store, load)
