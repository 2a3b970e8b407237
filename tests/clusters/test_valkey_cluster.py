"""The cache on a cluster of six: the contract, and a master that is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio.cluster import RedisCluster

from testbed.clusters.valkey_cluster import NODE_TIMEOUT_MILLISECONDS, ValkeyCluster
from tulbur.cache import SessionCache
from tulbur.cache.contract import CacheContract, sample
from tulbur.cache.redis import RedisBackend
from tulbur.importer.keys import LiveKeys

pytestmark = [pytest.mark.anyio, pytest.mark.clusters, pytest.mark.store(ValkeyCluster.name)]

SESSIONS = 60
NODE_SECONDS = NODE_TIMEOUT_MILLISECONDS / 1000
MOST_STALL_SECONDS = 30


@pytest.fixture(scope="module")
def cluster(joined: Callable[[type[ValkeyCluster]], ValkeyCluster]) -> ValkeyCluster:
    return joined(ValkeyCluster)


@pytest.fixture
async def backends() -> AsyncIterator[list[RedisBackend]]:
    made: list[RedisBackend] = []
    yield made
    for backend in made:
        await backend.stop()


class TestCacheOnACluster(CacheContract):
    @pytest.fixture(autouse=True)
    def _cluster(self, cluster: ValkeyCluster, backends: list[RedisBackend]) -> None:
        self.cluster = cluster
        self.backends = backends

    async def backend(self, clock: Callable[[], int]) -> RedisBackend:
        self.url = await asyncio.to_thread(self.cluster.url)
        # A busy machine must not look like a slow server.
        self.backends.append(RedisBackend(self.url, seconds=5))
        return self.backends[-1]

    def cache(self, *arguments: object, **options: object) -> tuple[SessionCache, list[str]]:
        made, errors = super().cache(*arguments, **options)  # type: ignore[arg-type]
        made._timeout_seconds = 10
        return made, errors

    async def pass_time(self, seconds: int) -> None:
        await super().pass_time(seconds)
        async with RedisCluster.from_url(self.url.partition("?")[0]) as raw:
            async for key in raw.scan_iter():
                await raw.pexpire(key, await raw.pttl(key) - seconds * 1000)


def clock() -> int:
    return time.time_ns() // 1000


async def test_a_killed_master_costs_misses_and_writes_resume(
    cluster: ValkeyCluster, backends: list[RedisBackend], figure: Callable[[str, float], None]
) -> None:
    backends.append(RedisBackend(await asyncio.to_thread(cluster.url)))
    errors: list[str] = []
    cache = SessionCache(backends[0], ("a-secret-key",), clock, on_error=errors.append, timeout_seconds=1)
    kept = [sample(id=f"S-{n}") for n in range(SESSIONS)]

    async def put_and_found(version: int) -> int:
        """How many are found after all were put; what is found is what was put, or older."""
        found = 0
        for one in kept:
            await cache.put(sample(id=one.id, version=version))
            got = await cache.get(one.id)
            assert got is None or got.version <= version
            found += got is not None and got.version == version
        return found

    async with asyncio.timeout(20):
        while await put_and_found(1) < SESSIONS:
            await asyncio.sleep(0.02)
    errors.clear()
    # Not the one that the address names, nor a replica: some of the keys have no server now.
    masters = await asyncio.to_thread(cluster.masters)
    await asyncio.to_thread(masters[-1].kill)
    began = time.monotonic()
    assert await put_and_found(2) < SESSIONS
    assert set(errors) <= {"error", "timeout"}
    assert errors
    version = 3
    async with asyncio.timeout(MOST_STALL_SECONDS):
        while await put_and_found(version) < SESSIONS:
            version += 1
            await asyncio.sleep(0.02)
    figure("valkey cluster: node timeouts until every key is served", (time.monotonic() - began) / NODE_SECONDS)
    errors.clear()
    assert await put_and_found(version + 1) == SESSIONS
    assert errors == []


async def test_the_old_shops_sessions_are_read_on_every_node(cluster: ValkeyCluster) -> None:
    url = await asyncio.to_thread(cluster.url)
    payload = '{"userId": "u", "cart": [{"shopId": "s", "quantity": 1, "sale_price": 5}], "totalAmount": 5}'
    keys = LiveKeys(url, lambda: 0)
    async with RedisCluster.from_url(url.partition("?")[0]) as raw:
        await raw.flushall(target_nodes=RedisCluster.PRIMARIES)
        for n in range(SESSIONS):
            await raw.set(f"payment-session:old-{n}", payload, ex=600)
    found = [old async for batch in keys.changed() for old in batch]
    assert {old.id for old in found} == {f"old-{n}" for n in range(SESSIONS)}
    assert await keys.read("old-7") == found[[old.id for old in found].index("old-7")]
    await keys.stop()
