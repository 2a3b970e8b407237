from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tulbur.commands.demo import Demo, running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[Demo]:
    async with running(data=tmp_path) as made:
        yield made
