"""The drill on every database with every cache, and with a cache that is lost between open and callback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from testbed.servers import Server
from tulbur.commands.demo import Demo, running
from tulbur.commands.drill import Drill, Outcome
from tulbur.stores.choosing import migrations

pytestmark = pytest.mark.anyio

Harm = Callable[[Server], Awaitable[None]]


async def flushed(server: Server) -> None:
    async with Redis.from_url(server.admin_url) as valkey:
        await valkey.flushall()


async def restarted(server: Server) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def stopped(server: Server) -> None:
    await asyncio.to_thread(server.kill)


class DrillWithHarm(Drill):
    """Does something to the cache just before the payer pays."""

    def __init__(self, demo: Demo, harm: Callable[[], Awaitable[None]]) -> None:
        super().__init__(demo.base_url, demo.api_key, demo.simulator_url, lambda _: None)
        self._harm = harm

    async def _pay(self, invoice_id: str) -> Any:
        await self._harm()
        return await super()._pay(invoice_id)


def _passed(outcome: Outcome) -> None:
    assert outcome.ok, outcome.problem
    assert outcome.loaded_from_database >= 1
    assert len(outcome.order_ids) == 1


@pytest.fixture(
    params=[
        pytest.param("sqlite", marks=pytest.mark.store("sqlite")),
        pytest.param("postgres", marks=pytest.mark.store("postgres")),
        pytest.param("mariadb", marks=pytest.mark.store("mariadb")),
        pytest.param("mongodb", marks=pytest.mark.store("mongodb")),
    ]
)
def stored(request: pytest.FixtureRequest) -> dict[str, object]:
    """The setting that chooses a fresh database of each kind; SQLite is what a demo has by itself."""
    if request.param == "sqlite":
        return {}
    url: str = request.getfixturevalue("database")(request.param)
    migrations(url).up(url)
    return {"database_url": url}


async def test_in_process(stored: dict[str, object]) -> None:
    async with running(changes=stored) as demo:
        _passed(await Drill(demo.base_url, demo.api_key, demo.simulator_url, lambda _: None).run())


@pytest.mark.store("valkey")
@pytest.mark.parametrize("harm", [flushed, restarted, stopped])
async def test_with_a_cache_that_is_lost(
    stored: dict[str, object], own_server: Callable[[str], Server], harm: Harm
) -> None:
    server = own_server("valkey")
    async with running(changes=stored | {"redis_url": server.admin_url}) as demo:
        _passed(await DrillWithHarm(demo, lambda: harm(server)).run())
