"""MongoDB as a replica set of three: the contract, and a primary that is killed under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.clusters.load import all_there, loaded
from tests.stores.mongo_world import started

from testbed.clusters.replica_set import ELECTION_SECONDS, ReplicaSet
from tulbur.stores import contract, mongo_migrate
from tulbur.stores.mongo_harness import MongoHarness

pytestmark = [pytest.mark.anyio, pytest.mark.clusters, pytest.mark.store(ReplicaSet.name)]


@pytest.fixture(scope="module")
def cluster(joined: Callable[[type[ReplicaSet]], ReplicaSet]) -> ReplicaSet:
    return joined(ReplicaSet)


@pytest.fixture(scope="module")
def harness(cluster: ReplicaSet) -> MongoHarness:
    return MongoHarness(cluster.url)


class TestStoreOnAReplicaSet(contract.StoreContract):
    @pytest.fixture(autouse=True)
    def _harness(self, harness: MongoHarness) -> None:
        self.harness = harness


async def test_a_killed_primary_loses_nothing_that_was_acknowledged(
    cluster: ReplicaSet, figure: Callable[[str, float], None]
) -> None:
    url = cluster.url()
    mongo_migrate.up(url)
    async with started(url) as store:
        async with loaded(store) as load:
            await load.more(20)
            killed = await asyncio.to_thread(cluster.primary)
            await asyncio.to_thread(killed.kill)
            await load.more(20)
        assert load.stall > 0.5, "the kill was not felt"
        assert load.stall < 5 * ELECTION_SECONDS
        figure("replica set: stall in election timeouts", load.stall / ELECTION_SECONDS)
        await all_there(store, load)
    assert await asyncio.to_thread(cluster.primary) is not killed
