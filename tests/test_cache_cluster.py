"""The cache over a Valkey Cluster of three masters: each session on its own node, found from any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from testbed.servers import Server
from testbed.valkey import Valkey
from tulbur.cache import SessionCache
from tulbur.cache.contract import sample
from tulbur.cache.old_keys import RedisOldKeys
from tulbur.cache.redis import RedisBackend
from tulbur.core.session import SECOND

pytestmark = [pytest.mark.anyio, pytest.mark.store("valkey")]

SLOTS = 16_384


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class ClusterNode(Valkey):
    def argv(self, program: Path, folder: Path, port: int) -> list[str]:
        return [*super().argv(program, folder, port), "--cluster-enabled", "yes", "--databases", "1"]


@pytest.fixture
async def cluster(own_server: Callable[[str], Server]) -> AsyncIterator[list[Server]]:
    nodes = [own_server("valkey") for _ in range(3)]
    clients: list[Any] = []
    for node in nodes:
        node.stop()
        node._engine = ClusterNode()
        node.start()
        clients.append(Redis.from_url(node.admin_url))
    for n, client in enumerate(clients):
        first, last = SLOTS * n // 3, SLOTS * (n + 1) // 3 - 1
        await client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        await clients[0].execute_command("CLUSTER MEET", "127.0.0.1", nodes[n].port)
    async with asyncio.timeout(30):
        for client in clients:
            while (await client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":
                await asyncio.sleep(0.02)
    yield nodes
    for client in clients:
        await client.aclose()


async def test_a_cluster_keeps_each_session_on_one_of_its_nodes(cluster: list[Server]) -> None:
    now = [1_800_000_000 * SECOND]
    errors: list[str] = []
    backend = RedisBackend(f"{cluster[0].admin_url.removesuffix('/0')}?cluster=1", seconds=5)
    cache = SessionCache(backend, ["key"], lambda: now[0], on_error=errors.append, timeout_seconds=10)
    ids = [f"S-{n}" for n in range(60)]
    for id_ in ids:
        await cache.put(sample(id=id_, version=5))
        await cache.put(sample(id=id_, version=4))
    assert [await cache.get(id_) for id_ in ids] == [sample(id=id_, version=5) for id_ in ids]
    await cache.drop(ids[0])
    assert await cache.get(ids[0]) is None
    assert await cache.ping()
    assert errors == []
    for node in cluster:
        async with Redis.from_url(node.admin_url) as raw:
            assert 0 < len(await raw.keys("payment-session:*")) < len(ids)
    await asyncio.to_thread(cluster[2].kill)
    found = [await cache.get(id_) for id_ in ids]
    assert None in found
    assert set(errors) == {"error"}
    await cache.stop()


async def test_the_old_shops_keys_can_be_on_a_cluster(cluster: list[Server]) -> None:
    keys = RedisOldKeys(f"{cluster[0].admin_url.removesuffix('/0')}?cluster=1")
    await keys.start()
    ids = [f"S-{n}" for n in range(30)]
    assert [await keys.put(id_, b"{}", 60) for id_ in ids] == [True] * 30
    assert [await keys.put(id_, b"{}", 60) for id_ in ids] == [False] * 30
    found = [await keys.get(id_) for id_ in ids]
    assert set(found) == {b" {}"}
    assert [await keys.remove(id_, b" {}") for id_ in ids] == [True] * 30
    await keys.stop()
