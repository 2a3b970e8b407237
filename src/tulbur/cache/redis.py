"""The cache's bytes in Redis or Valkey, alone or as a cluster, shared by all processes.

Each command names one key, so that a cluster can serve it. A session is put here only after the database has it, so
what stands under its key is replaced, unless it is a newer version of ours: what another program keeps under the id of
one of our sessions is nobody's only copy. Except for the copy that was exported: that one is the old shop's. Under any
other id nothing is written, and nothing foreign is ever deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from typing import Any, Final, TypeAlias, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from tulbur.cache import EXPORTED, FORMAT, cache_key

SECONDS: Final = 0.2
"""Longest wait for a connection, and for one answer; the whole call has SessionCache's own limit."""

MOST_CONNECTIONS: Final = 32

SCANNED: Final = 1000
"""Keys of any name that Redis looks at for one answer of SCAN."""

# The envelope begins with one byte of format and eight of version, the highest first. Bytes are compared one by one:
# Lua compares strings in the server's locale.
SET_IF_NEWER: Final = """
local kept = redis.pcall('GETRANGE', KEYS[1], 0, 8)
if type(kept) == 'string' and string.byte(kept) == tonumber(ARGV[5]) then return 0 end
if type(kept) == 'string' and #kept == 9 and string.byte(kept) == tonumber(ARGV[4]) then
  for i = 1, 8 do
    local old, new = string.byte(kept, i + 1), string.byte(ARGV[1], i)
    if old > new then return 0 end
    if old < new then break end
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
_SHA: Final = hashlib.sha1(SET_IF_NEWER.encode(), usedforsecurity=False).hexdigest()

FORGET: Final = """
local first = redis.pcall('GETRANGE', KEYS[1], 0, 0)
if type(first) ~= 'string' or string.byte(first) ~= tonumber(ARGV[1]) then return 0 end
return redis.call('DEL', KEYS[1])
"""

_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}

_Client: TypeAlias = "Redis | RedisCluster"


class RedisBackend:
    """Implements `cache.Backend`; the URL is redis://, rediss:// (TLS) or valkey://, with `?cluster=1` for a cluster.

    Raises:
        ValueError: the URL cannot be read; the message does not repeat it.
    """

    def __init__(self, url: str, *, seconds: float = SECONDS, most_connections: int = MOST_CONNECTIONS) -> None:
        self._url, self._cluster = _read(url)
        self._seconds = seconds
        self._most_connections = most_connections
        self._client: _Client | None = None
        self._connect()

    @property
    def kind(self) -> str:
        return "redis cluster" if self._cluster else "redis"

    @property
    def told(self) -> str:
        """What messages call it: kind and host, never user or password."""
        host = urlsplit(self._url).netloc.rpartition("@")[2] or "localhost"
        return f"{self.kind} at {host}"

    async def start(self) -> None:
        self._connect()

    async def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def ping(self) -> None:
        await self.ask("PING")

    async def get(self, key: str) -> bytes | None:
        try:
            value = await self.ask("GET", key)
        except ResponseError as refused:
            if not str(refused).startswith("WRONGTYPE"):
                raise
            return b""  # another program keeps a hash or a list there: there is something, and it is not ours
        return cast("bytes | None", value)

    async def set_if_newer(self, key: str, version: int, value: bytes, ttl_seconds: int) -> None:
        given = (key, version.to_bytes(8, "big"), value, ttl_seconds, FORMAT[0], EXPORTED[0])
        try:
            await self.ask("EVALSHA", _SHA, 1, *given)
        except NoScriptError:  # a server that was restarted or flushed has to be told the script again
            await self.ask("EVAL", SET_IF_NEWER, 1, *given)

    async def delete(self, key: str) -> None:
        await self.ask("EVAL", FORGET, 1, key, FORMAT[0])

    async def flush(self) -> None:
        """Among the keys that may be ours, those that hold a value of ours; each is judged and deleted in one step."""
        if self._client is None:
            raise ConnectionError("the cache is stopped")
        async for key in self._client.scan_iter(match=f"{cache_key('')}*", count=SCANNED):
            await self.ask("EVAL", FORGET, 1, key, FORMAT[0])

    async def ask(self, *command: Any) -> object:  # noqa: ANN401 - whatever a command takes
        """Send one command, which names one key."""
        if self._client is None:
            raise ConnectionError("the cache is stopped")
        return await cast("Awaitable[object]", self._client.execute_command(*command))

    def _connect(self) -> None:
        """Build the client, which connects when it is asked something; one try each, because a miss is cheaper."""
        if self._client is not None:
            return
        limits: dict[str, Any] = {
            "socket_timeout": self._seconds,
            "socket_connect_timeout": self._seconds,
            "retry": Retry(NoBackoff(), 0),
            # With these, redis-py no longer looks whether a kept connection was closed meanwhile.
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        if self._cluster:
            self._client = RedisCluster.from_url(self._url, max_connections=self._most_connections, **limits)
            return
        pool = BlockingConnectionPool.from_url(
            self._url, max_connections=self._most_connections, timeout=self._seconds, **limits
        )
        self._client = Redis.from_pool(pool)


def _read(url: str) -> tuple[str, bool]:
    """The URL as redis-py takes it, and whether it names a cluster."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname or "@" in parts.path:
        raise ValueError("not an address such as redis://:password@host:6379/0")
    query = dict(parse_qsl(parts.query))
    cluster = query.pop("cluster", "0") == "1"
    if cluster and parts.path not in ("", "/", "/0"):
        raise ValueError("a cluster has no numbered databases")
    return parts._replace(scheme=_SCHEMES[parts.scheme], query=urlencode(query)).geturl(), cluster
