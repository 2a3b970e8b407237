from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.web.api_world import Api
from tests.web.api_world import api as make_api


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = make_api()
    async with made.http:
        yield made
    await made.parts.payments.stop()
