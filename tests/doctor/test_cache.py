"""Each way in which the cache cannot be used is its own sentence; what it holds of others is no fault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from tests.doctor.world import SECRET, lines, mute, of, said

from testbed.servers import Server
from tulbur.commands.demo import running

pytestmark = pytest.mark.anyio

ABSENT = {"database_url": "sqlite:////nowhere/at/all.db"}


async def cache(url: str) -> tuple[bool, str, str]:
    found = await of("cache", redis_url=url, **ABSENT)
    return found.ok, found.detail, found.remedy


async def told(server: Server, *commands: str) -> None:
    async with Redis.from_url(server.admin_url) as redis:
        for command in commands:
            await redis.execute_command(*command.split())


def at(server: Server, login: str = "") -> str:
    return f"redis://{login}127.0.0.1:{server.port}/0"


async def test_off_is_a_remark() -> None:
    found = await of("cache", **ABSENT)
    assert (found.ok, found.detail.startswith("in-process")) == (True, True)
    assert "REDIS_URL" in found.remedy


async def test_on_is_proved_and_leaves_nothing(database: Callable[[str], str]) -> None:
    url = database("valkey")
    async with Redis.from_url(url) as redis:
        await redis.set("payment-session:s-1", "{not ours")
        await redis.hset("payment-session:s-2", "a", "b")
        ok, detail, _ = await cache(url)
        assert (ok, "answers, keeps values and lets them end" in detail) == (True, True)
        assert sorted(await redis.keys()) == [b"payment-session:s-1", b"payment-session:s-2"]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"redis://:{SECRET}@127.0.0.1:1/0", "nothing listens on 127.0.0.1:1 (connection refused)"),
        (f"redis://:{SECRET}@nowhere.invalid/0", "the name nowhere.invalid cannot be looked up"),
        (f"redis://:12/{SECRET}@127.0.0.1/0", "REDIS_URL is not an address"),
        (f"redis://:{SECRET}@127.0.0.1/3?cluster=1", "which has no numbered databases"),
    ],
)
async def test_out_of_reach(url: str, sentence: str) -> None:
    ok, detail, remedy = await cache(url)
    assert (ok, sentence in detail, "REDIS_URL" in remedy) == (False, True, True), detail


async def test_never_saying_a_word() -> None:
    async with mute() as port:
        ok, detail, _ = await cache(f"redis://127.0.0.1:{port}/0")
    assert (ok, "does not answer within 0.2 s" in detail) == (False, True)


async def test_each_refusal_has_its_own_remedy(own_server: Callable[[str], Server]) -> None:
    server, other = own_server("valkey"), own_server("valkey")

    await told(server, f"CONFIG SET requirepass {SECRET}")
    for login in ("", ":wrong@"):
        ok, detail, remedy = await cache(at(server, login))
        assert (ok, "refuses this password" in detail, "correct REDIS_URL" in remedy) == (False, True, True)
    assert (await cache(at(server, f":{SECRET}@")))[0]

    async with Redis.from_url(at(server, f":{SECRET}@")) as redis:
        await redis.execute_command("ACL", "SETUSER", "few", "on", f">{SECRET}", "~other:*", "+@all")
    ok, detail, remedy = await cache(at(server, f"few:{SECRET}@"))
    assert (ok, "lets this user not" in detail, "ACL SETUSER" in remedy) == (False, True, True)

    await told(other, "CONFIG SET maxmemory 1", "CONFIG SET maxmemory-policy noeviction")
    ok, detail, remedy = await cache(at(other))
    assert (ok, "is full and evicts nothing" in detail, "allkeys-lru" in remedy) == (False, True, True)
    await told(other, "CONFIG SET maxmemory 0", f"REPLICAOF 127.0.0.1 {server.port}")
    ok, detail, remedy = await cache(at(other))
    assert (ok, "is a replica" in detail, "primary" in remedy) == (False, True, True)


async def test_a_single_server_that_is_called_a_cluster(database: Callable[[str], str]) -> None:
    host = urlsplit(database("valkey")).netloc
    ok, detail, remedy = await cache(f"redis://{host}?cluster=1")
    assert (ok, "is no cluster" in detail, "?cluster=1" in remedy) == (False, True, True)


async def test_an_old_shop_that_works_on_is_seen_in_redis(database: Callable[[str], str]) -> None:
    """Two systems on one QPay login end each other's token."""
    url = database("valkey")
    async with running(changes={"redis_url": url}) as demo, Redis.from_url(url) as redis:
        settings = demo.settings.model_dump()
        assert len(lines(await said(**settings), "qpay login")) == 1
        await redis.set("payment-session:old-1", '{"userId":"u1"}')
        await redis.set("payment-session:old-2", '{"userId":"u2"}')
        await redis.set("payment-session:ours", b"\x01sealed")
        await redis.rpush("payment-session:a-list", "x")
        login, hint = lines(await said(**settings), "qpay login")
    assert login.ok
    assert hint.ok
    assert "2 sessions of the old shop's are in REDIS_URL" in hint.detail
    assert "login of tulbur's own" in hint.remedy


async def test_a_server_that_is_killed(own_server: Callable[[str], Server]) -> None:
    server = own_server("valkey")
    await asyncio.to_thread(server.kill)
    ok, detail, _ = await cache(at(server))
    assert (ok, "nothing listens on" in detail) == (False, True)
