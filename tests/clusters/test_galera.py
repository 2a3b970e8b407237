"""MariaDB Galera with three nodes: the contract over two of them, conflicts between them, and one that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.clusters.load import all_there, loaded
from tests.proxy import proxied
from tests.stores.servers import connected, started

from testbed.clusters.galera import SUSPECT_SECONDS, Galera
from tulbur.errors import CommitUnknown, StoreUnavailable
from tulbur.ports import Store
from tulbur.stores import contract, dialects, migrate
from tulbur.stores.contracts.samples import NOW, answered, invoiced
from tulbur.stores.harnesses import LossyNetworkStore, NetworkHarness, empty
from tulbur.stores.network import NetworkStore

pytestmark = [pytest.mark.anyio, pytest.mark.clusters, pytest.mark.store(Galera.name)]

MOST_ROUNDS = 60


@pytest.fixture(scope="module")
def cluster(joined: Callable[[type[Galera]], Galera]) -> Galera:
    return joined(Galera)


@pytest.fixture(scope="module")
def urls(cluster: Galera) -> list[str]:
    """One database, by each node's address."""
    first = cluster.url()
    migrate.up(first)
    return [first.replace(f":{cluster.nodes[0].port}/", f":{node.port}/") for node in cluster.nodes]


class GaleraHarness(NetworkHarness):
    """The second store is on another node than the first."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self._second = second

    @asynccontextmanager
    async def reopen(self, store: Store) -> AsyncIterator[Store]:
        del store
        async with started(LossyNetworkStore(self._second)) as other:
            yield other


class TestStoreOnTwoNodes(contract.StoreContract):
    @pytest.fixture(autouse=True)
    def _urls(self, urls: list[str]) -> None:
        self.harness = GaleraHarness(urls[0], urls[1])


async def test_what_one_node_committed_every_node_shows_at_once(urls: list[str]) -> None:
    async with started(NetworkStore(urls[0])) as writer, started(NetworkStore(urls[2])) as reader:
        await writer._write(empty)
        for number in range(50):
            before = await invoiced(writer, f"s-{number}")
            assert await reader.get(before.id) == before


async def test_a_conflict_between_nodes_is_run_again(urls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    conflicts = 0
    code = dialects.code

    def noted(error: BaseException) -> str | int:
        nonlocal conflicts
        found = code(error)
        conflicts += found == 1213
        return found

    monkeypatch.setattr(dialects, "code", noted)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(started(NetworkStore(url))) for url in urls]
        await stores[0]._write(empty)
        rounds = 0
        while not conflicts and rounds < MOST_ROUNDS:
            rounds += 1
            before = await invoiced(stores[0], f"s-{rounds}")
            after = answered(before, f"pay-{rounds}")
            results = await asyncio.gather(*(store.commit(before, after) for store in stores))
            assert sorted(map(str, results)) == ["Committed.LOST", "Committed.LOST", "Committed.WON"]
            assert [await store.get(before.id) for store in stores] == [after.committed()] * 3
        assert conflicts, f"no conflict in {rounds} rounds"
        assert (await stores[1].stats(NOW)).orders == 2 * rounds


async def test_a_killed_node_loses_nothing_that_was_acknowledged(
    cluster: Galera, urls: list[str], figure: Callable[[str, float], None]
) -> None:
    killed, left, _ = cluster.nodes
    async with proxied(killed.port) as proxy:
        through = urls[0].replace(f":{killed.port}/", f":{proxy.port}/")
        async with started(NetworkStore(through)) as store:
            await store._write(empty)
            async with loaded(store) as load:
                await load.more(30)
                await asyncio.to_thread(killed.kill)
                proxy.target = left.port
                proxy.cut()
                await load.more(30)
            assert load.errors or load.stall > 1, "the kill was not felt"
            assert load.stall < 5 * SUSPECT_SECONDS
            figure("galera: stall in suspect timeouts", load.stall / SUSPECT_SECONDS)
            await all_there(store, load)
    # The node that was killed gets what it has missed.
    await asyncio.to_thread(cluster.rejoin, killed)
    async with started(NetworkStore(urls[0])) as back, connected(urls[0]) as other:
        await all_there(back, load)
        assert (await other.exec_driver_sql("SHOW STATUS LIKE 'wsrep_cluster_size'")).one()[1] == "3"


async def test_a_node_without_a_majority_promises_nothing(cluster: Galera, urls: list[str]) -> None:
    alone, *others = cluster.nodes
    async with started(NetworkStore(urls[0])) as store:
        before = await invoiced(store)
        for node in others:
            await asyncio.to_thread(node.kill)
        async with asyncio.timeout(8 * SUSPECT_SECONDS):
            told = ""
            while "majority" not in told:
                with pytest.raises((CommitUnknown, StoreUnavailable)) as refused:
                    await store.commit(before, answered(before, "pay-1"))
                told = str(refused.value)
    assert alone.running()
