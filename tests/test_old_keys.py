"""The old shop's keys on a real Valkey: what is written, what is never written over, what is removed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis
from tests.payments.world import KEYS, Clock

from tulbur.cache import SessionCache, cache_key
from tulbur.cache.contract import sample
from tulbur.cache.old_keys import RedisOldKeys
from tulbur.cache.redis import RedisBackend
from tulbur.errors import SourceUnavailable

pytestmark = [pytest.mark.anyio, pytest.mark.store("valkey")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def url(database: Callable[[str], str]) -> str:
    return database("valkey")


@pytest.fixture
async def keys(url: str) -> AsyncIterator[RedisOldKeys]:
    made = RedisOldKeys(url)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def raw(url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(url)
    yield client
    await client.aclose()


async def test_a_key_is_written_once_with_its_time(keys: RedisOldKeys, raw: Redis) -> None:
    assert await keys.get("S-1") is None
    assert await keys.put("S-1", b'{"a": 1}', 60)
    assert await raw.get("payment-session:S-1") == b' {"a": 1}', "JSON, behind the mark that caches leave alone"
    assert 30 < await raw.ttl("payment-session:S-1") <= 60
    assert not await keys.put("S-1", b'{"a": 2}', 60)
    assert await keys.get("S-1") == b' {"a": 1}'


@pytest.mark.parametrize("theirs", [b"{}", b"[]", b" {}", b"\x00", b"\xff", b"text"])
async def test_what_another_program_wrote_is_left(keys: RedisOldKeys, raw: Redis, theirs: bytes) -> None:
    await raw.set(cache_key("S-1"), theirs)
    assert not await keys.put("S-1", b"{}", 60)
    assert await keys.get("S-1") == theirs
    assert not await keys.remove("S-1", b"another")
    assert await raw.get(cache_key("S-1")) == theirs
    assert await keys.remove("S-1", theirs)
    assert await keys.get("S-1") is None


async def test_what_is_no_text_is_left(keys: RedisOldKeys, raw: Redis) -> None:
    await raw.hset(cache_key("S-1"), "f", "v")
    assert await keys.get("S-1") == b""
    assert not await keys.put("S-1", b"{}", 60)
    assert await raw.hgetall(cache_key("S-1")) == {b"f": b"v"}


async def test_what_our_cache_keeps_counts_as_nothing(keys: RedisOldKeys, raw: Redis, url: str) -> None:
    cache = SessionCache(RedisBackend(url, seconds=5), KEYS, Clock(), timeout_seconds=10)
    await cache.put(sample())
    assert await keys.get("S-1") is None
    assert await keys.put("S-1", b"{}", 60)
    await cache.put(sample(version=10**6))
    await cache.put(sample(version=10**6, cache_seconds=0))
    assert await raw.get(cache_key("S-1")) == b" {}"
    await cache.stop()


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p@h:1/2", "valkey://h?cluster=1", "valkeys://h"])
def test_the_address_is_as_for_the_cache(url: str) -> None:
    RedisOldKeys(url)


@pytest.mark.parametrize("url", ["http://h", "redis://", ""])
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        RedisOldKeys(url)


async def test_silence_is_told_without_its_password() -> None:
    silent = RedisOldKeys("redis://u:hidden-word@127.0.0.1:9/0")
    for work in (
        silent.start,
        lambda: silent.get("S"),
        lambda: silent.put("S", b"", 1),
        lambda: silent.remove("S", b""),
    ):
        with pytest.raises(SourceUnavailable, match="does not answer") as told:
            await work()
        assert "hidden-word" not in str(told.value)
    await silent.stop()
