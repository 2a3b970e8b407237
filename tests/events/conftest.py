from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.events.receiver import Receiver, receiving
from tests.payments.conftest import store_on
from tests.payments.world import Clock, World, world

from tulbur.stores.harnesses import empty
from tulbur.stores.network import NetworkStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture(
    params=[
        pytest.param("memory", marks=pytest.mark.store("memory")),
        pytest.param("sqlite", marks=pytest.mark.store("sqlite")),
        "postgres",
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
