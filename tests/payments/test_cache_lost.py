"""Whatever becomes of the cache between opening and callback, a paid session becomes exactly one order set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.payments.world import Clock, World, world

from testbed.servers import Server
from tulbur.cache import cache_key
from tulbur.cache.redis import RedisBackend
from tulbur.core.session import Status
from tulbur.stores.memory import MemoryStore

pytestmark = [pytest.mark.anyio, pytest.mark.store("valkey")]


async def flushed(server: Server, raw: Redis, _: str) -> None:
    await raw.flushall()


async def restarted(server: Server, raw: Redis, _: str) -> None:
    server.kill()
    server.start()


async def killed(server: Server, raw: Redis, _: str) -> None:
    server.kill()


async def expired(server: Server, raw: Redis, key: str) -> None:
    await raw.pexpire(key, 0)


async def evicted(server: Server, raw: Redis, key: str) -> None:
    await raw.config_set("maxmemory-policy", "allkeys-random")
    await raw.config_set("maxmemory", "1")


async def overwritten_by_the_old_shop(server: Server, raw: Redis, key: str) -> None:
    await raw.set(key, b'{"userId": "u1", "totalAmount": 1}')


async def poisoned_with_a_cheaper_cart(server: Server, raw: Redis, key: str) -> None:
    kept = await raw.get(key)
    assert kept is not None
    await raw.set(key, kept.replace(b"5000000", b"0000100"))


LOSSES = [flushed, restarted, killed, expired, evicted, overwritten_by_the_old_shop, poisoned_with_a_cheaper_cart]


@pytest.mark.parametrize("lost", LOSSES, ids=lambda lost: lost.__name__)
async def test_the_order_is_made_from_the_database(
    own_server: Callable[[str], Server], lost: Callable[[Server, Redis, str], Awaitable[Any]]
) -> None:
    server, clock = own_server("valkey"), Clock()
    backend = RedisBackend(server.admin_url, seconds=5)
    async with Redis.from_url(server.admin_url) as raw, world(MemoryStore(clock), clock, backend) as w:
        session = await w.open()
        assert await raw.get(cache_key(session.id)) is not None
        payment_id = await w.pay(session)
        await lost(server, raw, cache_key(session.id))
        await once_and_only_once(w, session.id, payment_id)
        assert w.heard.loads[0] == "database"


async def test_with_the_cache_in_place_it_is_found_there(own_server: Callable[[str], Server]) -> None:
    server, clock = own_server("valkey"), Clock()
    async with world(MemoryStore(clock), clock, RedisBackend(server.admin_url, seconds=5)) as w:
        session = await w.open()
        await once_and_only_once(w, session.id, await w.pay(session))
        assert set(w.heard.loads) == {"cache"}


async def once_and_only_once(w: World, session_id: str, payment_id: str) -> None:
    assert await w.payments.callback(session_id, payment_id) == "paid"
    stored = await w.stored(session_id)
    assert (stored.status, len(stored.orders), stored.amount) == (Status.PAID, 2, 5_000_000)
    assert await w.payments.callback(session_id, payment_id) == "repeated"
    assert await w.stored(session_id) == stored
