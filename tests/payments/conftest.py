from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.payments.world import Clock, World, world

from tulbur.stores.memory import MemoryStore
from tulbur.stores.sqlite import SqliteStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite"])
async def w(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = Clock()
    store = MemoryStore(clock) if request.param == "memory" else SqliteStore(tmp_path / "t.db", clock)
    async with world(store, clock) as made:
        yield made
