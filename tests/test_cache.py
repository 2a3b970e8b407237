"""The cache over its memory backend: the contract, its bounds, and what a foreign value may not do."""

from collections.abc import Callable

import pytest

from tulbur.cache import Backend, MemoryBackend, SessionCache, cache_key
from tulbur.cache.contract import CacheContract, sample
from tulbur.core.session import SECOND, Invoice, Status

pytestmark = pytest.mark.anyio

KEYS = ("a-secret-key",)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


class TestMemoryCache(CacheContract):
    async def backend(self, clock: Callable[[], int]) -> Backend:
        return MemoryBackend(clock)


async def test_the_least_recently_used_leave_first() -> None:
    backend = MemoryBackend(Clock(), max_entries=3)
    for key in "abc":
        await backend.set_if_newer(key, 1, b"x", 10)
    await backend.get("a")
    await backend.set_if_newer("d", 1, b"x", 10)
    kept = [key for key in "abcd" if await backend.get(key)]
    assert kept == ["a", "c", "d"]


async def test_memory_is_bounded_by_bytes() -> None:
    backend = MemoryBackend(Clock(), max_bytes=100)
    for key in "abcde":
        await backend.set_if_newer(key, 1, b"x" * 30, 10)
    assert [key for key in "abcde" if await backend.get(key)] == ["c", "d", "e"]
    await backend.set_if_newer("huge", 1, b"x" * 101, 10)
    assert await backend.get("huge") is None
    assert [key for key in "abcde" if await backend.get(key)] == ["c", "d", "e"]


async def test_bytes_are_given_back() -> None:
    clock = Clock()
    backend = MemoryBackend(clock, max_bytes=100)
    for version in range(1, 50):
        await backend.set_if_newer("a", version, b"x" * 60, 10)
    await backend.delete("a")
    await backend.set_if_newer("b", 1, b"x" * 60, 10)
    clock.now += 10 * SECOND
    assert await backend.get("b") is None
    await backend.set_if_newer("c", 1, b"x" * 40, 10)
    await backend.set_if_newer("d", 1, b"x" * 60, 10)
    assert await backend.get("c") == b"x" * 40
    await backend.stop()
    assert await backend.get("c") is None


async def test_an_ended_entry_does_not_stand_in_the_way() -> None:
    clock = Clock()
    backend = MemoryBackend(clock)
    await backend.set_if_newer("a", 9, b"old", 1)
    clock.now += SECOND
    await backend.set_if_newer("a", 2, b"new", 1)
    assert await backend.get("a") == b"new"


async def test_a_session_survives_with_all_it_holds() -> None:
    cache = SessionCache(MemoryBackend(Clock()), KEYS, Clock())
    await cache.start()
    attempt = Invoice(number=1, sender_invoice_no="TB1", created_at=1, deadline=2, id="i", qr_text="00020101")
    session = sample(attempts=(attempt,), metadata={"нэр": "Бат"}, status=Status.PAID, paid_at=5)
    await cache.put(session)
    assert await cache.get(session.id) == session
    await cache.stop()
    assert await cache.get(session.id) is None


async def test_a_value_of_another_program_is_left_where_it_is() -> None:
    backend = MemoryBackend(Clock())
    errors: list[str] = []
    cache = SessionCache(backend, KEYS, Clock(), on_error=errors.append)
    theirs = b'{"userId": "u", "cart": []}'
    await backend.set_if_newer(cache_key("S-1"), 1, theirs, 600)
    assert await cache.get("S-1") is None
    assert await backend.get(cache_key("S-1")) == theirs
    assert errors == ["poisoned"]


async def test_an_envelope_is_sealed_for_its_key() -> None:
    backend = MemoryBackend(Clock())
    errors: list[str] = []
    cache = SessionCache(backend, KEYS, Clock(), on_error=errors.append)
    await backend.set_if_newer(cache_key("S-1"), 3, cache._sealed("another-key", sample()), 600)
    assert await cache.get("S-1") is None
    assert errors == ["poisoned"]


async def test_a_session_that_cannot_be_written_is_no_error_of_the_caller() -> None:
    errors: list[str] = []
    cache = SessionCache(MemoryBackend(Clock()), KEYS, Clock(), on_error=errors.append)
    await cache.put(sample(description="\ud800"))
    assert await cache.get("S-1") is None
    assert errors == ["error"]


def test_a_key_is_needed() -> None:
    with pytest.raises(ValueError, match="secret key"):
        SessionCache(MemoryBackend(Clock()), (), Clock())


async def test_secrets_are_not_shown() -> None:
    cache = SessionCache(MemoryBackend(Clock()), KEYS, Clock())
    assert KEYS[0] not in repr(cache)
    assert KEYS[0].encode() not in cache._keys
