from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.payments.world import Clock, World, world

from tulbur.ports import Store
from tulbur.stores.harnesses import empty
from tulbur.stores.memory import MemoryStore
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
    return NetworkStore(request.getfixturevalue("migrated")(request.param), clock)


@pytest.fixture(
    params=[
        pytest.param("memory", marks=pytest.mark.store("memory")),
        pytest.param("sqlite", marks=pytest.mark.store("sqlite")),
        "postgres",
        "mariadb",
    ]
)
async def w(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = Clock()
    store = store_on(request, tmp_path, clock)
    if isinstance(store, NetworkStore):
        await store.start()
        await store._write(empty)
        await store.stop()
    async with world(store, clock) as made:
        yield made
