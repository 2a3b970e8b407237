# ruff: noqa: S101 - a contract suite asserts
"""What any cache backend must do below `SessionCache`: subclass `CacheContract` in a test and give it a backend.

Every `test_*` method is a coroutine. Nothing here imports a test library; run it with whichever runs coroutines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from tulbur.cache import FORMAT, Backend, SessionCache, cache_key
from tulbur.core.session import SECOND, Micros, Session, Status

_KEY: Final = "contract-key-one"
_OTHER_KEY: Final = "contract-key-two"
_LIFE_SECONDS: Final = 60
_FAR: Final = 2**40
"""A version no honest writer has reached."""


class _Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now: Micros = 1_800_000_000 * SECOND

    def __call__(self) -> Micros:
        return self.now


def sample(**changes: Any) -> Session:  # noqa: ANN401 - any field
    """A committed session to keep."""
    made = Session(id="S-1", user_id="u", amount=5_000_000, created_at=1, expires_at=2, cache_seconds=_LIFE_SECONDS)
    return replace(made, **{"version": 3, **changes})


class CacheContract:
    """Fill in `backend` and `pass_time`."""

    clock: _Clock

    async def backend(self, clock: Callable[[], Micros]) -> Backend:
        """A fresh, empty backend that tells the time by `clock`, if it can."""
        raise NotImplementedError

    async def pass_time(self, seconds: int) -> None:
        """Let entries grow older; a backend with a clock of its own overrides this."""
        self.clock.now += seconds * SECOND

    async def made(
        self, *keys: str, final_only: bool = False, over: Callable[[Backend], Backend] | None = None
    ) -> tuple[SessionCache, Backend, list[str]]:
        """A cache over a fresh backend, that backend, and the list in which the cache's errors are told."""
        self.clock = _Clock()
        backend = await self.backend(self.clock)
        await backend.start()
        cache, errors = self.cache(over(backend) if over else backend, *keys, final_only=final_only)
        return cache, backend, errors

    def cache(self, backend: Backend, *keys: str, final_only: bool = False) -> tuple[SessionCache, list[str]]:
        errors: list[str] = []
        made = SessionCache(backend, keys or (_KEY,), self.clock, on_error=errors.append, final_only=final_only)
        return made, errors

    async def test_what_was_put_is_found(self) -> None:
        cache, _, errors = await self.made()
        await cache.put(sample())
        assert await cache.get("S-1") == sample()
        assert await cache.get("s-1") is None
        assert await cache.ping()
        assert errors == []

    async def test_it_is_kept_for_its_cache_seconds(self) -> None:
        cache, _, _ = await self.made()
        await cache.put(sample(cache_seconds=2))
        await cache.put(sample(id="S-2", cache_seconds=_LIFE_SECONDS))
        await self.pass_time(3)
        assert await cache.get("S-1") is None
        assert await cache.get("S-2") is not None

    async def test_no_cache_seconds_keep_nothing(self) -> None:
        cache, _, _ = await self.made()
        await cache.put(sample(cache_seconds=0))
        assert await cache.get("S-1") is None
        await cache.put(sample())
        await cache.put(sample(version=9, cache_seconds=0))
        assert await cache.get("S-1") is None, "what was kept before is forgotten"

    async def test_a_newer_version_stays(self) -> None:
        cache, _, _ = await self.made()
        await cache.put(sample(version=10, status=Status.PAID))
        await cache.put(sample(version=9))
        found = await cache.get("S-1")
        assert found is not None
        assert (found.version, found.status) == (10, Status.PAID)
        await cache.put(sample(version=11, status=Status.PAID))
        newest = await cache.get("S-1")
        assert newest is not None
        assert newest.version == 11

    async def test_dropped_is_gone(self) -> None:
        cache, _, errors = await self.made()
        await cache.put(sample(version=9))
        await cache.drop("S-1")
        await cache.drop("never-there")
        assert await cache.get("S-1") is None
        await cache.put(sample(version=3))
        assert await cache.get("S-1") is not None
        assert errors == []

    async def test_another_sessions_value_is_a_miss(self) -> None:
        cache, backend, errors = await self.made()
        await cache.put(sample(id="S-2"))
        stolen = await backend.get(cache_key("S-2"))
        assert stolen is not None
        await self.poison(cache, backend, errors, stolen)

    async def test_broken_bytes_are_misses(self) -> None:
        cache, backend, errors = await self.made()
        await cache.put(sample())
        good = await backend.get(cache_key("S-1"))
        assert good is not None
        broken = [b"", b"\x00", b"{}", good[:1], good[:40], good[:-1], b"\x02" + good[1:], good + b" ", b"\xff" * 500]
        for value in broken:
            await self.poison(cache, backend, errors, value)

    async def test_a_changed_bit_is_a_miss(self) -> None:
        cache, backend, errors = await self.made()
        await cache.put(sample())
        good = await backend.get(cache_key("S-1"))
        assert good is not None
        await self.poison(cache, backend, errors, good.replace(b"5000000", b"1000000"))
        for at in range(0, len(good), 7):
            await self.poison(cache, backend, errors, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])

    async def poison(self, cache: SessionCache, backend: Backend, errors: list[str], value: bytes) -> None:
        """Whoever can write to the backend writes `value` under the right key: a miss, counted, and no obstacle."""
        await backend.delete(cache_key("S-1"))
        await backend.set_if_newer(cache_key("S-1"), _FAR if value[:1] == FORMAT else 3, value, _LIFE_SECONDS)
        before = len(errors)
        assert await cache.get("S-1") is None
        assert errors[before:] == ["poisoned"]
        await cache.put(sample())
        assert await cache.get("S-1") == sample()
        assert len(errors) == before + 1

    async def test_keys_can_be_rotated(self) -> None:
        old, backend, _ = await self.made(_KEY)
        await old.put(sample())
        rotated, errors = self.cache(backend, _OTHER_KEY, _KEY)
        assert await rotated.get("S-1") == sample()
        assert errors == []
        await rotated.put(sample(version=4))
        assert await old.get("S-1") is None
        await rotated.put(sample(version=4))
        new, errors = self.cache(backend, _OTHER_KEY)
        assert await new.get("S-1") == sample(version=4)
        assert errors == []

    async def test_an_unknown_key_is_a_miss(self) -> None:
        old, backend, _ = await self.made(_KEY)
        await old.put(sample())
        stranger, errors = self.cache(backend, _OTHER_KEY)
        assert await stranger.get("S-1") is None
        assert errors == ["poisoned"]

    async def test_only_final_states_are_kept_when_asked(self) -> None:
        cache, backend, errors = await self.made(final_only=True)
        await cache.put(sample())
        assert await backend.get(cache_key("S-1")) is None
        for status in (Status.PAID, Status.EXPIRED, Status.CANCELLED):
            await cache.put(sample(id=status.value, status=status))
            assert await cache.get(status.value) is not None
        shared, _ = self.cache(backend)
        await shared.put(sample())
        assert await cache.get("S-1") is None
        assert errors == []

    async def test_everything_can_be_forgotten(self) -> None:
        cache, backend, errors = await self.made()
        for number in range(30):
            await cache.put(sample(id=f"S-{number}"))
        assert await cache.flush()
        assert [await backend.get(cache_key(f"S-{number}")) for number in range(30)] == [None] * 30
        await cache.put(sample(version=1))
        assert await cache.get("S-1") == sample(version=1)
        assert errors == []

    async def test_what_could_not_be_forgotten_is_said(self) -> None:
        calls: list[str] = []
        cache, _, errors = await self.made(over=lambda backend: _Raising(backend, calls))
        assert not await cache.flush()
        assert errors == ["error"]

    async def test_a_raising_backend_is_a_miss_and_soon_left_alone(self) -> None:
        calls: list[str] = []
        cache, _, errors = await self.made(over=lambda backend: _Raising(backend, calls))
        for _ in range(20):
            assert await cache.get("S-1") is None
            await cache.put(sample())
            await cache.drop("S-1")
        assert len(calls) == 5
        assert errors == ["error"] * 5
        assert not await cache.ping()
        self.clock.now += 2 * SECOND
        assert await cache.get("S-1") is None
        assert await cache.get("S-1") is None
        assert len(calls) == 7

    async def test_a_hanging_backend_is_a_miss(self) -> None:
        self.clock = _Clock()
        hanging, errors = _Hanging(await self.backend(self.clock)), list[str]()
        cache = SessionCache(hanging, (_KEY,), self.clock, on_error=errors.append, timeout_seconds=0.001)
        assert await cache.get("S-1") is None
        await cache.put(sample())
        await cache.drop("S-1")
        assert not await cache.ping()
        assert errors == ["timeout"] * 4

    async def test_it_is_used_again_when_it_works_again(self) -> None:
        calls: list[str] = []
        raising: list[_Raising] = []

        def over(backend: Backend) -> Backend:
            raising.append(_Raising(backend, calls))
            return raising[0]

        cache, _, _ = await self.made(over=over)
        for _ in range(5):
            await cache.put(sample())
        raising[0].broken = False
        await cache.put(sample())
        assert await cache.get("S-1") is None
        self.clock.now += SECOND
        await cache.put(sample())
        assert await cache.get("S-1") == sample()


class _Wrapped:
    """A backend whose every call goes through `trouble` first."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def trouble(self, name: str) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        await self._after("start", self._backend.start)

    async def stop(self) -> None:
        await self._after("stop", self._backend.stop)

    async def ping(self) -> None:
        await self._after("ping", self._backend.ping)

    async def get(self, key: str) -> bytes | None:
        await self.trouble("get")
        return await self._backend.get(key)

    async def set_if_newer(self, key: str, version: int, value: bytes, ttl_seconds: int) -> None:
        await self._after("set", lambda: self._backend.set_if_newer(key, version, value, ttl_seconds))

    async def delete(self, key: str) -> None:
        await self._after("delete", lambda: self._backend.delete(key))

    async def flush(self) -> None:
        await self._after("flush", self._backend.flush)

    async def _after(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        await self.trouble(name)
        await work()


class _Raising(_Wrapped):
    def __init__(self, backend: Backend, calls: list[str]) -> None:
        super().__init__(backend)
        self.calls = calls
        self.broken = True

    async def trouble(self, name: str) -> None:
        self.calls.append(name)
        if self.broken:
            raise ConnectionResetError("the backend went away")


class _Hanging(_Wrapped):
    async def trouble(self, name: str) -> None:  # noqa: ARG002 - every call hangs
        await asyncio.Event().wait()
