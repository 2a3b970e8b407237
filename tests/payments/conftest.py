from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.payments.world import World, world


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def w() -> AsyncIterator[World]:
    async with world() as made:
        yield made
