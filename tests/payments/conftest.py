from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.payments.world import Clock, World, world

from testbed.plugin import TestServers
from tulbur.cache.redis import RedisBackend
from tulbur.ports import Store
from tulbur.stores import mongo_migrate
from tulbur.stores.harnesses import empty
from tulbur.stores.memory import MemoryStore
from tulbur.stores.mongo import MongoStore
from tulbur.stores.mongo_harness import emptied
from tulbur.stores.network import NetworkStore
from tulbur.stores.sqlite import SqliteStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def mongo_url(servers: TestServers) -> Callable[[], str]:
    """Gives a migrated database for all tests of a file; whoever uses it empties it."""
    made: list[str] = []

    def url() -> str:
        servers.note("mongodb")
        if not made:
            made.append(servers.url("mongodb"))
            mongo_migrate.up(made[0])
        return made[0]

    return url


def store_on(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> Store:
    """A store of the kind the test is run on, not started."""
    if request.param == "memory":
        return MemoryStore(clock)
    if request.param == "sqlite":
        return SqliteStore(folder / "t.db", clock)
    if request.param == "mongodb and valkey":
        return MongoStore(request.getfixturevalue("mongo_url")(), clock)
    return NetworkStore(request.getfixturevalue("migrated")(request.param), clock)


@pytest.fixture(
    params=[
        pytest.param("memory", marks=pytest.mark.store("memory")),
        pytest.param("sqlite", marks=pytest.mark.store("sqlite")),
        "postgres",
        "mariadb",
        "mongodb and valkey",
    ]
)
async def w(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = Clock()
    store = store_on(request, tmp_path, clock)
    if isinstance(store, NetworkStore):
        await store.start()
        await store._write(empty)
        await store.stop()
    backend = None
    if isinstance(store, MongoStore):
        backend = RedisBackend(request.getfixturevalue("database")("valkey"), seconds=5)
    async with world(store, clock, backend) as made:
        yield made
    if isinstance(store, MongoStore):
        await emptied(store.url)
