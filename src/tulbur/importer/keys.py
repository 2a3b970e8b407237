"""The old shop's `payment-session:*` keys in Redis; SCAN, GETRANGE and PTTL are all that is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError

from tulbur.core.moving import OldSession
from tulbur.errors import Invalid, SettingsError
from tulbur.importer.rows import MOST_PAYLOAD, OrderRows, redis_session
from tulbur.importer.sources import BATCH, READ_SECONDS, bounded
from tulbur.ports import Clock

PREFIX: Final = "payment-session:"
CONNECT_SECONDS: Final = 10.0

LIVE_SECONDS: Final = 1.0
"""Longest wait for one answer while callbacks wait for it."""

SCANNED: Final = 1000
"""Keys of any name that Redis looks at for one answer of SCAN."""

MOST_REMEMBERED: Final = 200_000
"""Keys of which it is remembered what they held; past this they are read again each time."""

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_ERRORS: Final = (RedisError, OSError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it was: `value` is None when it was gone or is no text, `ttl_seconds` None when it has no end."""

    session_id: str
    value: bytes | None
    ttl_seconds: int | None

    @property
    def is_theirs(self) -> bool:
        """Whether the old shop may have written it, whose sessions are JSON objects; tulbur's own cache is none."""
        return self.value is not None and self.value.lstrip().startswith(b"{")


class RedisKeys:
    """Reads the keys in batches; SCAN may name one twice and one that just came not at all.

    Raises:
        SettingsError: the URL is none; `setting` is what it is called.
    """

    def __init__(self, url: str, *, seconds: float = READ_SECONDS, setting: str = "--redis") -> None:
        self._seconds = seconds
        try:
            self._redis: Any = _client(url, seconds)
        except ValueError:
            raise SettingsError(f"{setting} is no Redis URL, such as redis://host:6379/0.") from None

    async def start(self) -> None:
        await self._bounded(self._redis.ping())

    async def stop(self) -> None:
        await self._redis.aclose()

    async def read(self, session_ids: Sequence[str]) -> Sequence[Key]:
        """These keys as they are now, in one round; of one that is gone, `value` is None."""
        return await self._bounded(self._read([f"{PREFIX}{id_}".encode(errors="replace") for id_ in session_ids]))

    async def batches(self) -> AsyncIterator[Sequence[Key]]:
        found = self._redis.scan_iter(match=f"{PREFIX}*", count=SCANNED)
        names: list[bytes] = []
        # Among many other keys the next of ours may be many answers away.
        while (name := await bounded(anext(found, None), _ERRORS)) is not None:
            names.append(name)
            if len(names) == BATCH:
                yield await self._bounded(self._read(names))
                names = []
        if names:
            yield await self._bounded(self._read(names))

    async def _read(self, names: Sequence[bytes]) -> Sequence[Key]:
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.getrange(name, 0, MOST_PAYLOAD)
            pipe.pttl(name)
        answers = await pipe.execute(raise_on_error=False)
        for answer in answers:
            # A key of another type is none of theirs; any other error is no answer, and never "not there".
            if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                raise answer
        return [
            Key(
                session_id=name.decode(errors="replace").removeprefix(PREFIX),
                value=value if isinstance(value, bytes) and value else None,
                ttl_seconds=max(ttl // 1000, 1) if isinstance(ttl, int) and ttl > 0 else None,
            )
            for name, value, ttl in zip(names, answers[::2], answers[1::2], strict=True)
        ]

    async def _bounded(self, reading: Awaitable[T]) -> T:
        return await bounded(reading, _ERRORS, self._seconds)


class LiveKeys:
    """Implements `ports.OldShop`: the same keys while both shops work, each read again only when it changed."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._keys = RedisKeys(url, seconds=LIVE_SECONDS, setting="REDIS_URL")
        self._clock = clock
        self._seen: dict[str, bytes] = {}

    async def start(self) -> None:
        """Nothing: it connects when it is asked, and may not be there yet."""

    async def stop(self) -> None:
        await self._keys.stop()

    async def read(self, session_id: str) -> OldSession | None:
        (key,) = await self._keys.read([session_id])
        return self._session(key)

    async def changed(self) -> AsyncIterator[Sequence[OldSession]]:
        seen: dict[str, bytes] = {}
        async for keys in self._keys.batches():
            fresh = []
            for key in keys:
                digest = sha256(key.value or b"").digest()
                if len(seen) < MOST_REMEMBERED:
                    seen[key.session_id] = digest
                if self._seen.get(key.session_id) != digest:
                    fresh.append(self._session(key))
            yield [old for old in fresh if old is not None]
        # Only what was taken in to the end is remembered.
        self._seen = seen

    def _session(self, key: Key) -> OldSession | None:
        if not key.is_theirs or key.value is None:
            return None
        try:
            read = redis_session(
                key.session_id,
                key.value,
                now=self._clock(),
                ttl_seconds=key.ttl_seconds,
                processed=[],
                orders=OrderRows({}),
            )
            return replace(read, checked=False)
        except Invalid:
            return None


def _client(url: str, seconds: float) -> Any:  # noqa: ANN401 - redis-py's two clients share no type
    """The client for a URL as REDIS_URL takes it.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError("not a Redis URL")
    query = dict(parse_qsl(parts.query))
    kind = RedisCluster if query.pop("cluster", "0") == "1" else Redis
    address = parts._replace(scheme=_SCHEMES[parts.scheme], query=urlencode(query)).geturl()
    limits: dict[str, Any] = {
        "socket_connect_timeout": min(CONNECT_SECONDS, seconds),
        "socket_timeout": seconds,
    }
    return kind.from_url(address, **limits)
