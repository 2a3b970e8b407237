from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.events.receiver import Receiver, receiving
from tests.payments.conftest import STORES, empty_store_on
from tests.payments.world import Clock, World, world


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def shop() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture(params=STORES)
async def w(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    clock = Clock()
    async with world(await empty_store_on(request, tmp_path, clock), clock) as made:
        yield made
