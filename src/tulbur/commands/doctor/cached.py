"""The cache: off, out of reach, refusing, a replica, full, a cluster that is not called one; and who else uses it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tulbur.cache import FORMAT, cache_key
from tulbur.commands.doctor.finding import Finding, fine, of_sentence, problem, remark
from tulbur.commands.doctor.reaching import hosts_of, reach
from tulbur.errors import SettingsError
from tulbur.settings import Settings
from tulbur.wiring import open_cache_backend

if TYPE_CHECKING:
    from tulbur.cache.redis import RedisBackend

PORT: Final = 6379
PROOF_SECONDS: Final = 10
"""The life of the one value that is written, should the doctor be killed before it removes it."""

BATCHES: Final = 5
BATCH: Final = 200
"""How many keys are looked at for the old shop's, in all at most a thousand."""

_OFF: Final = "in-process: several processes (`serve --workers`, `worker`) each cache only what can no longer change"
_UNTIL: Final = "until then every session is read from the database"
_REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "NoPermissionError": (
        "lets this user not read and write payment-session:*",
        "allow it PING GET SET GETRANGE DEL TTL EVAL EVALSHA on ~payment-session:* (ACL SETUSER)",
    ),
    "AuthenticationError": (
        "refuses this password, or wants one",
        "correct REDIS_URL: redis://user:password@host:6379/0, with @, / and : in a password as %40, %2F and %3A",
    ),
    "ReadOnlyError": ("is a replica, which takes no writes", "name the primary in REDIS_URL"),
    "OutOfMemoryError": (
        "is full and evicts nothing",
        "set its maxmemory-policy to allkeys-lru, or give it more memory",
    ),
    "BusyLoadingError": ("is loading its data", "wait a moment"),
    "MovedError": ("is a cluster, which REDIS_URL does not say", "add ?cluster=1 to REDIS_URL"),
    "RedisClusterException": (
        "is no cluster, or a broken one",
        "take ?cluster=1 out of REDIS_URL, or mend the cluster",
    ),
    "ClusterDownError": ("is a cluster that is down", "mend it: redis-cli --cluster check"),
    "TimeoutError": (
        "does not answer within 0.2 s",
        "find out what keeps it busy or is in between, and whether it speaks TLS (rediss://) as REDIS_URL says",
    ),
}


async def cache(settings: Settings) -> Finding:
    """Keep a value there, read it back and remove it, as a session is."""
    try:
        backend, kind = open_cache_backend(settings)
    except SettingsError as wrong:
        return of_sentence("cache", wrong.message, "correct REDIS_URL")
    if settings.redis_url is None:
        return remark("cache", _OFF, "set REDIS_URL where several processes serve; one alone needs none")
    redis: Any = backend
    trouble = await reach(hosts_of(settings.redis_url, PORT), "REDIS_URL")
    if trouble is not None:
        return problem("cache", f"{redis.told}: {trouble.detail}", f"{trouble.remedy}; {_UNTIL}")
    try:
        await _proved(redis, kind)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises: it cannot be used
        # The kind alone: what a driver says may hold what it was given.
        names = [found.__name__ for found in type(error).__mro__]
        said, remedy = next(
            (_REFUSALS[name] for name in names if name in _REFUSALS),
            (f"does not answer as it should ({names[0]})", "see its log, or correct REDIS_URL"),
        )
        return problem("cache", f"{redis.told} {said}", f"{remedy}; {_UNTIL}")
    finally:
        with contextlib.suppress(Exception):
            await redis.stop()
    return fine("cache", f"{redis.told} answers, keeps values and lets them end")


class MovedError(Exception):
    """Some of a cluster's keys lie elsewhere, though those of this look may not."""


async def _proved(redis: RedisBackend, kind: str) -> None:
    await redis.start()
    await redis.ping()
    if kind == "redis" and "cluster_enabled:1" in await _info(redis, "cluster"):
        raise MovedError
    key, value = cache_key(f"doctor-{secrets.token_hex(8)}"), FORMAT + bytes(8) + secrets.token_bytes(32)
    await redis.set_if_newer(key, 1, value, PROOF_SECONDS)
    try:
        if await redis.get(key) != value:
            raise ConnectionError("not what was written")
    finally:
        await redis.delete(key)


async def _info(redis: RedisBackend, section: str) -> str:
    """What the server tells of itself; "" where it does not like to be asked."""
    from redis.exceptions import ResponseError  # noqa: PLC0415 - of an extra

    try:
        told = await redis.ask("INFO", section)
    except ResponseError:
        return ""
    return "".join(f"{name}:{value}\n" for name, value in told.items()) if isinstance(told, dict) else str(told)


async def old_keys(settings: Settings) -> int:
    """Sessions of the old shop among the first keys of REDIS_URL: JSON under `payment-session:*`; 0 in a cluster."""
    if settings.redis_url is None:
        return 0
    redis: Any = None
    try:
        redis, kind = open_cache_backend(settings)
        return await _counted(redis) if kind == "redis" else 0
    except Exception:  # noqa: BLE001 - the cache has a finding of its own
        return 0
    finally:
        with contextlib.suppress(Exception):
            await redis.stop()


async def _counted(redis: RedisBackend) -> int:
    found, cursor = 0, "0"
    for _ in range(BATCHES):
        answer: Any = await redis.ask("SCAN", cursor, "MATCH", cache_key("*"), "COUNT", str(BATCH))
        cursor, names = str(answer[0]), answer[1]
        found += await _jsons(redis, names)
        if cursor == "0":
            break
    return found


async def _jsons(redis: RedisBackend, names: Sequence[bytes]) -> int:
    found = 0
    for name in names[:BATCH]:
        with contextlib.suppress(Exception):  # a hash or a list of somebody else's
            found += await redis.ask("GETRANGE", name.decode(errors="surrogateescape"), "0", "0") == b"{"
    return found
