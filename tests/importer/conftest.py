from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.importer.running import Old
from tests.payments.world import Clock, World, world

from tulbur.stores.memory import MemoryStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def w() -> AsyncIterator[World]:
    clock = Clock()
    async with world(MemoryStore(clock), clock) as made:
        yield made


@pytest.fixture
async def old(w: World, database: Callable[[str], str]) -> AsyncIterator[Old]:
    made = Old(w, database("postgres"))
    yield made
    await made.source.stop()


@pytest.fixture
async def redis(database: Callable[[str], str]) -> AsyncIterator[Any]:
    from redis.asyncio import Redis  # noqa: PLC0415 - of an extra

    client = Redis.from_url(database("valkey"))
    yield client
    await client.aclose()
