from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.payments.world import Clock, World, world

from tulbur.cache.redis import RedisBackend
from tulbur.ports import Store
from tulbur.stores.harnesses import empty
from tulbur.stores.memory import MemoryStore
from tulbur.stores.mongo import MongoStore
from tulbur.stores.mongo_harness import emptied
from tulbur.stores.network import NetworkStore
from tulbur.stores.sqlite import SqliteStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def store_on(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> Store:
    """A store of the kind the test is run on, not started."""
    if request.param == "memory":
        return MemoryStore(clock)
    if request.param == "sqlite":
        return SqliteStore(folder / "t.db", clock)
    url = request.getfixturevalue("migrated")(request.param)
    return MongoStore(url, clock) if request.param == "mongodb" else NetworkStore(url, clock)


STORES = [
    pytest.param("memory", marks=pytest.mark.store("memory")),
    pytest.param("sqlite", marks=pytest.mark.store("sqlite")),
    "postgres",
    "mariadb",
    "mongodb",
]


async def empty_store_on(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> Store:
    """The same, on a database without rows."""
    store = store_on(request, folder, clock)
    if isinstance(store, NetworkStore):
        await store.start()
        await store._write(empty)
        await store.stop()
    if isinstance(store, MongoStore):
        await emptied(store.url)
    return store


@pytest.fixture(params=STORES)
async def w(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = Clock()
    store = await empty_store_on(request, tmp_path, clock)
    backend = None
    if isinstance(store, MongoStore):
        # The one on MongoDB is also the one with a shared cache.
        backend = RedisBackend(request.getfixturevalue("database")("valkey"), seconds=5)
    async with world(store, clock, backend) as made:
        yield made
