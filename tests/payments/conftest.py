from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.payments.world import Clock, World, world

from testbed.plugin import TestServers
from tulbur.cache.redis import RedisBackend
from tulbur.stores import mongo_migrate
from tulbur.stores.memory import MemoryStore
from tulbur.stores.mongo import MongoStore
from tulbur.stores.mongo_harness import emptied
from tulbur.stores.sqlite import SqliteStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def mongo_url(servers: TestServers) -> Callable[[], str]:
    """Gives a migrated database for all tests of a file; whoever uses it empties it."""
    made: list[str] = []

    def url() -> str:
        if not made:
            made.append(servers.url("mongodb"))
            mongo_migrate.up(made[0])
        return made[0]

    return url


@pytest.fixture(params=["memory", "sqlite", "mongodb and valkey"])
async def w(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: Callable[[str], str],
    mongo_url: Callable[[], str],
    servers: TestServers,
) -> AsyncIterator[World]:
    clock = Clock()
    if request.param != "mongodb and valkey":
        store = MemoryStore(clock) if request.param == "memory" else SqliteStore(tmp_path / "t.db", clock)
        async with world(store, clock) as made:
            yield made
        return
    servers.note("mongodb")
    backend = RedisBackend(database("valkey"), seconds=5)
    async with world(MongoStore(mongo_url(), clock), clock, backend) as made:
        yield made
    await emptied(mongo_url())
