from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.web.api_world import Api
from tests.web.api_world import api as make_api
from tests.web.seed_world import Shop
from tests.web.seed_world import shop as make_shop


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = make_api()
    async with made.http:
        yield made
    await made.parts.payments.stop()


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with make_shop() as made:
        yield made


@pytest.fixture
async def session_id(shop: Shop) -> str:
    return str((await shop.opened())["sessionId"])
