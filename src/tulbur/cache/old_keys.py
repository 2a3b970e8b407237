"""The old shop's keys, written for its return: never over what another program keeps there, and never half."""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError

from tulbur.cache import EXPORTED, FORMAT, cache_key
from tulbur.cache.redis import RedisBackend
from tulbur.errors import SourceUnavailable

SECONDS: Final = 5.0
"""Longest wait for one answer: nothing is hurried here, and each key is asked for once."""

# In one step, so that nobody writes between the look and the write. An empty text is a key that is not there.
PUT: Final = """
local first = redis.pcall('GETRANGE', KEYS[1], 0, 0)
if type(first) ~= 'string' then return 0 end
if first ~= '' and string.byte(first) ~= tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

REMOVE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class RedisOldKeys:
    """`ports.OldKeys` over Redis or Valkey, alone or as a cluster; the URL is as for REDIS_URL.

    Raises:
        ValueError: the URL cannot be read; the message does not repeat it.
    """

    def __init__(self, url: str, *, seconds: float = SECONDS) -> None:
        self._redis = RedisBackend(url, seconds=seconds)

    async def start(self) -> None:
        await self._redis.start()
        await self._asked("PING")

    async def stop(self) -> None:
        await self._redis.stop()

    async def get(self, session_id: str) -> bytes | None:
        try:
            value = await self._redis.get(cache_key(session_id))
        except (RedisError, OSError) as error:
            raise _silence(error) from None
        return None if value is not None and value.startswith(FORMAT) else value

    async def put(self, session_id: str, value: bytes, ttl_seconds: int) -> bool:
        given = (cache_key(session_id), EXPORTED + value, ttl_seconds, FORMAT[0])
        return bool(await self._asked("EVAL", PUT, 1, *given))

    async def remove(self, session_id: str, value: bytes) -> bool:
        return bool(await self._asked("EVAL", REMOVE, 1, cache_key(session_id), value))

    async def _asked(self, *command: object) -> object:
        try:
            return await self._redis.ask(*command)
        except (RedisError, OSError) as error:
            raise _silence(error) from None


def _silence(error: Exception) -> SourceUnavailable:
    """Told by its kind alone, for its text may hold the URL."""
    return SourceUnavailable(f"the old shop's Redis does not answer ({type(error).__name__}); run it again, it goes on")
