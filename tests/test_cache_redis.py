"""The cache over a real Valkey: the contract, and a server that dies, forgets, hangs, evicts or has others' values."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from tests.proxy import proxied

from testbed.servers import Server
from tulbur.cache import SessionCache, cache_key
from tulbur.cache.contract import CacheContract, sample
from tulbur.cache.redis import RedisBackend
from tulbur.core.session import SECOND, Status

pytestmark = [pytest.mark.anyio, pytest.mark.store("valkey")]

KEYS = ("a-secret-key",)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


class Opened:
    """Backends and raw clients, all closed at the end of the test."""

    def __init__(self) -> None:
        self.backends: list[RedisBackend] = []
        self.clients: list[Redis] = []

    def backend(self, url: str, seconds: float = 5) -> RedisBackend:
        # A busy machine must not look like a slow server, except where that is what is tested.
        self.backends.append(RedisBackend(url, seconds=seconds))
        return self.backends[-1]

    def cache(self, backend: RedisBackend, clock: Clock | None = None) -> tuple[SessionCache, list[str]]:
        errors: list[str] = []
        return SessionCache(backend, KEYS, clock or Clock(), on_error=errors.append, timeout_seconds=10), errors

    def raw(self, url: str) -> Redis:
        self.clients.append(Redis.from_url(url))
        return self.clients[-1]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    made = Opened()
    yield made
    for backend in made.backends:
        await backend.stop()
    for client in made.clients:
        await client.aclose()


@pytest.fixture
def url(database: Callable[[str], str]) -> str:
    return database("valkey")


class TestRedisCache(CacheContract):
    @pytest.fixture(autouse=True)
    def _server(self, database: Callable[[str], str], opened: Opened) -> None:
        self.database = database
        self.opened = opened

    async def backend(self, clock: Callable[[], int]) -> RedisBackend:
        self.url = self.database("valkey")
        return self.opened.backend(self.url)

    async def pass_time(self, seconds: int) -> None:
        await super().pass_time(seconds)
        raw = self.opened.raw(self.url)
        async for key in raw.scan_iter():
            await raw.pexpire(key, await raw.pttl(key) - seconds * 1000)


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
async def test_either_scheme_is_one_server(url: str, opened: Opened, scheme: str) -> None:
    cache, errors = opened.cache(opened.backend(url.replace("redis://", f"{scheme}://")))
    await cache.put(sample())
    assert await cache.get("S-1") == sample()
    assert errors == []


async def test_versions_are_compared_as_numbers(url: str, opened: Opened) -> None:
    backend, other = opened.backend(url), opened.backend(url)
    cache, _ = opened.cache(backend)
    shared, _ = opened.cache(other)
    for version in (1, 127, 128, 255, 256, 65_535, 65_536, 2**40, 2**40 + 1):
        await shared.put(sample(version=version))
        await cache.put(sample(version=version - 1))
        found = await cache.get("S-1")
        assert found is not None
        assert found.version == version


async def test_of_many_writers_the_newest_stays(url: str, opened: Opened) -> None:
    caches = [opened.cache(opened.backend(url))[0] for _ in range(4)]
    await asyncio.gather(*(caches[n % 4].put(sample(version=1 + n * 37 % 64)) for n in range(64)))
    found = await caches[0].get("S-1")
    assert found is not None
    assert found.version == 64


async def test_the_key_and_its_time_are_what_the_documentation_says(url: str, opened: Opened) -> None:
    cache, _ = opened.cache(opened.backend(url))
    await cache.put(sample(cache_seconds=77))
    raw = opened.raw(url)
    assert [key async for key in raw.scan_iter()] == [b"payment-session:S-1"]
    assert 70 < await raw.ttl("payment-session:S-1") <= 77


async def test_the_old_shops_values_are_misses_and_left_alone(url: str, opened: Opened) -> None:
    cache, errors = opened.cache(opened.backend(url))
    raw = opened.raw(url)
    theirs = json.dumps({"userId": "u", "cart": [], "totalAmount": 1}).encode()
    await raw.set(cache_key("theirs"), theirs, ex=600)
    await raw.hset(cache_key("a-hash"), "field", "value")
    for id_ in ("theirs", "a-hash"):
        assert await cache.get(id_) is None
    assert errors == ["poisoned", "poisoned"]
    await cache.put(sample())
    assert await raw.get(cache_key("theirs")) == theirs
    assert await raw.hget(cache_key("a-hash"), "field") == b"value"


async def test_emptying_takes_nothing_of_the_old_shops(url: str, opened: Opened) -> None:
    cache, _ = opened.cache(opened.backend(url))
    raw = opened.raw(url)
    theirs = {
        "payment-session:old": b'{"cart": []}',
        "payment-session:exported": b' {"cart": []}',
        "payment-session:other": b"\x00",
        "session:S-1": b"\x01 not under our name",
    }
    for key, value in theirs.items():
        await raw.set(key, value)
    await raw.hset("payment-session:hash", "a", "b")
    await cache.put(sample())
    assert await cache.flush()
    assert await raw.get(cache_key("S-1")) is None
    assert {key: await raw.get(key) for key in theirs} == theirs
    assert await raw.hget("payment-session:hash", "a") == b"b"


async def test_what_stands_under_our_own_sessions_id_is_replaced(url: str, opened: Opened) -> None:
    cache, errors = opened.cache(opened.backend(url))
    raw = opened.raw(url)
    for step in (
        raw.set(cache_key("S-1"), b"{}"),
        raw.hset(cache_key("S-2"), "f", "v"),
        raw.lpush(cache_key("S-3"), "x"),
    ):
        await step
    for id_ in ("S-1", "S-2", "S-3"):
        await cache.put(sample(id=id_))
        assert await cache.get(id_) == sample(id=id_)
    assert errors == []


async def test_a_server_that_forgot_everything_is_told_the_script_again(url: str, opened: Opened) -> None:
    cache, errors = opened.cache(opened.backend(url))
    await cache.put(sample())
    raw = opened.raw(url)
    await raw.flushdb()
    await raw.script_flush()
    assert await cache.get("S-1") is None
    await cache.put(sample(version=2))
    assert await cache.get("S-1") == sample(version=2)
    assert errors == []


async def test_a_killed_server_is_a_miss_and_used_again_when_it_is_back(
    own_server: Callable[[str], Server], opened: Opened
) -> None:
    server, clock = own_server("valkey"), Clock()
    cache, errors = opened.cache(opened.backend(server.admin_url), clock)
    await asyncio.gather(*(cache.put(sample(id=f"S-{n}")) for n in range(8)))
    await asyncio.to_thread(server.kill)
    assert [await cache.get(f"S-{n}") for n in range(8)] == [None] * 8
    assert errors == ["error"] * 5  # then it is left alone
    assert not await cache.ping()
    await asyncio.to_thread(server.start)
    clock.now += 60 * SECOND
    errors.clear()
    assert await cache.get("S-1") is None
    for n in range(8):
        await cache.put(sample(id=f"S-{n}"))
        assert await cache.get(f"S-{n}") == sample(id=f"S-{n}")
    assert errors == []
    assert await cache.ping()


async def test_a_restart_nobody_noticed_costs_no_error(own_server: Callable[[str], Server], opened: Opened) -> None:
    server = own_server("valkey")
    cache, errors = opened.cache(opened.backend(server.admin_url))
    await asyncio.gather(*(cache.put(sample(id=f"S-{n}")) for n in range(8)))
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    assert await asyncio.gather(*(cache.get(f"S-{n}") for n in range(8))) == [None] * 8
    assert errors == []


async def test_a_hanging_server_is_a_miss_in_time_and_mixes_nothing_up(url: str, opened: Opened) -> None:
    parts = urlsplit(url)
    async with proxied(int(parts.port or 0)) as proxy:
        through, clock = f"redis://127.0.0.1:{proxy.port}{parts.path}", Clock()
        backend, errors = opened.backend(through, 0.05), list[str]()
        cache = SessionCache(backend, KEYS, clock, on_error=errors.append, timeout_seconds=0.1)
        patient, _ = opened.cache(opened.backend(url))
        for n in range(5):
            await patient.put(sample(id=f"S-{n}"))
        proxy.hanging = True
        assert await asyncio.gather(*(cache.get(f"S-{n}") for n in range(5))) == [None] * 5
        assert len(errors) == 5
        proxy.hanging = False
        proxy.cut()
        steady, _ = opened.cache(opened.backend(through), clock)
        assert [await steady.get(f"S-{n}") for n in range(5)] == [sample(id=f"S-{n}") for n in range(5)]
        await backend.stop()


async def test_cancelled_calls_mix_no_answers_up(url: str, opened: Opened) -> None:
    cache, errors = opened.cache(opened.backend(url))
    for n in range(5):
        await cache.put(sample(id=f"S-{n}"))
    for turns in range(12):
        tasks = [asyncio.create_task(cache.get(f"S-{n}")) for n in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for n in range(5):
            assert await cache.get(f"S-{n}") == sample(id=f"S-{n}")
    assert errors == []


async def test_a_lost_answer_to_a_write_is_a_counted_error_and_no_more(url: str, opened: Opened) -> None:
    parts = urlsplit(url)
    async with proxied(int(parts.port or 0)) as proxy:
        backend = opened.backend(f"redis://127.0.0.1:{proxy.port}{parts.path}")
        cache, errors = opened.cache(backend)
        await cache.put(sample())
        proxy.lose(b"EVALSHA")
        await cache.put(sample(version=4))
        assert (proxy.lost, errors) == (1, ["error"])
        assert await cache.get("S-1") == sample(version=4)
        await backend.stop()


async def test_a_full_server_evicts_or_refuses_and_both_are_misses(
    own_server: Callable[[str], Server], opened: Opened
) -> None:
    server = own_server("valkey")
    raw = opened.raw(server.admin_url)
    used = (await raw.info("memory"))["used_memory"]
    await raw.config_set("maxmemory", str(used + 2_000_000))
    await raw.config_set("maxmemory-policy", "allkeys-lru")
    cache, errors = opened.cache(opened.backend(server.admin_url))
    big = "x" * 50_000
    for n in range(100):
        await cache.put(sample(id=f"S-{n}", description=big))
    found = [n for n in range(100) if await cache.get(f"S-{n}") is not None]
    assert 0 < len(found) < 100
    assert errors == []
    await raw.config_set("maxmemory-policy", "noeviction")
    await raw.config_set("maxmemory", "1")
    await cache.put(sample(id="S-new", status=Status.PAID))
    assert errors == ["error"]
    assert await cache.get("S-new") is None


async def test_connections_are_bounded(url: str, opened: Opened) -> None:
    parts = urlsplit(url)
    async with proxied(int(parts.port or 0)) as proxy:
        backend = RedisBackend(f"redis://127.0.0.1:{proxy.port}{parts.path}", seconds=5, most_connections=4)
        cache, errors = opened.cache(backend)
        await asyncio.gather(*(cache.put(sample(id=f"S-{n}")) for n in range(100)))
        assert proxy.connections <= 4
        assert errors == []
        await backend.stop()


async def test_a_wrong_password_is_an_error_that_tells_no_secret(
    url: str, opened: Opened, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = urlsplit(url)
    backend = opened.backend(f"redis://shop:very-secret@127.0.0.1:{parts.port}{parts.path}")
    cache, errors = opened.cache(backend)
    assert await cache.get("S-1") is None
    assert errors == ["error"]
    with pytest.raises(Exception, match="username-password") as refused:
        await backend.ping()
    told = f"{refused.value!r} {backend!r} {backend.told} {caplog.text} {''.join(capfd.readouterr())}"
    assert "very-secret" not in told
    assert backend.told == f"redis at 127.0.0.1:{parts.port}"


@pytest.mark.parametrize("url", ["http://x", "redis://", "redis:///0", "localhost:6379", ""])
def test_a_url_that_cannot_be_read_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        RedisBackend(url)


def test_tls_and_clusters_are_chosen_by_the_url() -> None:
    assert RedisBackend("rediss://h")._url == "rediss://h"
    assert RedisBackend("valkeys://h")._url == "rediss://h"
    cluster = RedisBackend("valkey://u:p@h:7000?cluster=1&protocol=3")
    assert (cluster._url, cluster.told) == ("redis://u:p@h:7000?protocol=3", "redis cluster at h:7000")
