"""The old shop's `payment-session:*` keys in Redis; SCAN, GET and PTTL are all that is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tulbur.errors import SettingsError
from tulbur.importer.rows import MOST_PAYLOAD
from tulbur.importer.sources import BATCH, bounded

PREFIX: Final = "payment-session:"
CONNECT_SECONDS: Final = 10.0

_ERRORS: Final = (RedisError, OSError)


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it was: `value` is None when it was gone or is no text, `ttl_seconds` None when it has no end."""

    session_id: str
    value: bytes | None
    ttl_seconds: int | None


class RedisKeys:
    """Reads the keys in batches; SCAN may name one twice and one that just came not at all."""

    def __init__(self, url: str) -> None:
        address = url.replace("valkey://", "redis://", 1).replace("valkeys://", "rediss://", 1)
        try:
            self._redis: Any = Redis.from_url(address, socket_connect_timeout=CONNECT_SECONDS)
        except ValueError:
            raise SettingsError("--redis is no Redis URL, such as redis://host:6379/0.") from None

    async def start(self) -> None:
        await bounded(self._redis.ping(), _ERRORS)

    async def stop(self) -> None:
        await self._redis.aclose()

    async def batches(self) -> AsyncIterator[Sequence[Key]]:
        cursor = 0
        while True:
            cursor, names = await bounded(self._redis.scan(cursor, match=f"{PREFIX}*", count=BATCH), _ERRORS)
            if names:
                yield await bounded(self._read(names), _ERRORS)
            if cursor == 0:
                return

    async def _read(self, names: Sequence[bytes]) -> Sequence[Key]:
        pipe = self._redis.pipeline(transaction=False)
        for name in names:
            pipe.getrange(name, 0, MOST_PAYLOAD)
            pipe.pttl(name)
        answers = await pipe.execute(raise_on_error=False)
        return [
            Key(
                session_id=name.decode(errors="replace").removeprefix(PREFIX),
                value=value if isinstance(value, bytes) and value else None,
                ttl_seconds=max(ttl // 1000, 1) if isinstance(ttl, int) and ttl > 0 else None,
            )
            for name, value, ttl in zip(names, answers[::2], answers[1::2], strict=True)
        ]
