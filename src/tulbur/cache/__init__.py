"""The cache: a session that was committed, kept for a while under `payment-session:<id>`. Speed, never truth.

A value counts only if its MAC, under our secret, covers this key, this version and these bytes. So what comes out is
what tulbur wrote for this very session, at worst old, which the store's compare-and-set catches. Everything else that
may happen here is a miss, counted, and never an error to a caller.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from tulbur.core.codec import UnreadableDocument, decode, encode
from tulbur.core.session import SECOND, Micros, Session, Status
from tulbur.ports import Clock

TIMEOUT_SECONDS: Final = 0.25
"""Longest wait for the backend; the database answers sooner than that."""

FLUSH_SECONDS: Final = 600
"""Longest time for forgetting everything, at an operator's wish."""

FAILURES: Final = 5
SHORTEST_PAUSE_SECONDS: Final = 1
LONGEST_PAUSE_SECONDS: Final = 30
"""After this many failures in a row the backend is left alone for a pause that doubles with each further failure."""

FORMAT: Final = b"\x01"
"""First byte of an envelope; no JSON text begins with it, so a value another program keeps here is never ours."""

EXPORTED: Final = b" "
"""First byte of a session that was given back to the old shop: JSON readers skip it, and no cache writes over it."""

_VERSION_BYTES: Final = 8
_MAC_BYTES: Final = 32
_HEAD: Final = 1 + _VERSION_BYTES + _MAC_BYTES
_FINAL: Final = frozenset({Status.PAID, Status.EXPIRED, Status.CANCELLED})

OnError = Callable[[str], None]
"""Told the kind of each failure: "poisoned" (not what tulbur wrote for this session), "error" or "timeout"."""

T = TypeVar("T")


class Backend(Protocol):
    """Where bytes are kept; may raise whatever it likes, and may take its time."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None:
        """Return when it works."""

    async def get(self, key: str) -> bytes | None: ...

    async def set_if_newer(self, key: str, version: int, value: bytes, ttl_seconds: int) -> None:
        """Keep `value`, unless one with a greater version is kept."""

    async def delete(self, key: str) -> None:
        """Forget a value of ours; what another program keeps there stays."""

    async def flush(self) -> None:
        """Forget every value of ours; what another program keeps stays."""


def cache_key(session_id: str) -> str:
    return f"payment-session:{session_id}"


class SessionCache:
    """`ports.Cache` over any backend.

    Args:
        backend: keeps the bytes.
        secret_keys: TULBUR_SECRET_KEYS; the first signs, all verify.
        clock: the time now, for the pauses after failures.
        on_error: told the kind of each failure; must not raise.
        final_only: leave out sessions that can still be changed by a process that does not share this backend.
        timeout_seconds: longest wait for the backend.
    """

    def __init__(
        self,
        backend: Backend,
        secret_keys: Sequence[str],
        clock: Clock,
        *,
        on_error: OnError | None = None,
        final_only: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        if not secret_keys:
            raise ValueError("at least one secret key is needed")
        self._backend = backend
        self._keys = [hmac.digest(key.encode(), b"tulbur:cache", "sha256") for key in secret_keys]
        self._clock = clock
        self._on_error = on_error or (lambda _kind: None)
        self._final_only = final_only
        self._timeout_seconds = timeout_seconds
        self._failures = 0
        self._left_alone_until: Micros = 0

    async def start(self) -> None:
        await self._guarded(self._backend.start(), None)

    async def stop(self) -> None:
        await self._guarded(self._backend.stop(), None)

    async def ping(self) -> bool:
        """Whether the backend works; asked even while it is left alone."""
        return await self._guarded(self._pong(), otherwise=False)

    async def get(self, session_id: str) -> Session | None:
        """The session as it was at some commit within its `cache_seconds`, or None."""
        if self._is_left_alone():
            return None
        key = cache_key(session_id)
        value = await self._guarded(self._backend.get(key), None)
        if value is None or value.startswith(EXPORTED):
            return None
        session = self._opened(key, value)
        if session is None or session.id != session_id:
            self._on_error("poisoned")
            if value.startswith(FORMAT):  # it would stand in the way of a fresh one; a value of others is left alone
                await self.drop(session_id)
            return None
        return session if self._is_kept(session) else None

    async def put(self, session: Session) -> None:
        """Keep a committed session for its `cache_seconds`, unless a newer version is kept.

        One of 0 seconds is forgotten: it may have been kept before it was handed over.
        """
        if session.cache_seconds <= 0:
            await self.drop(session.id)
            return
        if not self._is_kept(session) or self._is_left_alone():
            return
        await self._guarded(self._keep(session), None)

    async def drop(self, session_id: str) -> None:
        """Forget a session, if the backend can be reached."""
        if not self._is_left_alone():
            await self._guarded(self._backend.delete(cache_key(session_id)), None)

    async def flush(self) -> bool:
        """Forget every session; False when the backend failed, and some may be left."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._backend.flush()
        except Exception:  # noqa: BLE001 - whatever a backend raises
            self._on_error("error")
            return False
        return True

    async def _keep(self, session: Session) -> None:
        key = cache_key(session.id)
        value = self._sealed(key, session)
        await self._backend.set_if_newer(key, session.version, value, session.cache_seconds)

    async def _pong(self) -> bool:
        await self._backend.ping()
        return True

    def _is_kept(self, session: Session) -> bool:
        return not self._final_only or session.status in _FINAL

    def _is_left_alone(self) -> bool:
        return self._clock() < self._left_alone_until

    async def _guarded(self, work: Awaitable[T], otherwise: T) -> T:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                done = await work
        except TimeoutError:
            self._failed("timeout")
        except Exception:  # noqa: BLE001 - whatever a backend raises is a miss
            self._failed("error")
        else:
            self._failures = self._left_alone_until = 0
            return done
        return otherwise

    def _failed(self, kind: str) -> None:
        self._on_error(kind)
        if self._is_left_alone():
            return  # asked before the pause began
        self._failures += 1
        if self._failures >= FAILURES:
            pause = min(SHORTEST_PAUSE_SECONDS << min(self._failures - FAILURES, 10), LONGEST_PAUSE_SECONDS)
            self._left_alone_until = self._clock() + pause * SECOND

    def _sealed(self, key: str, session: Session) -> bytes:
        version = session.version.to_bytes(_VERSION_BYTES, "big")
        document = encode(session)
        return b"".join((FORMAT, version, _mac(self._keys[0], key, version, document), document))

    def _opened(self, key: str, value: bytes) -> Session | None:
        if not value.startswith(FORMAT) or len(value) < _HEAD:
            return None
        version, mac, document = value[1 : 1 + _VERSION_BYTES], value[1 + _VERSION_BYTES : _HEAD], value[_HEAD:]
        if not any(hmac.compare_digest(mac, _mac(secret, key, version, document)) for secret in self._keys):
            return None
        try:
            return decode(document, int.from_bytes(version, "big"))
        except UnreadableDocument:
            return None


def _mac(secret: bytes, key: str, version: bytes, document: bytes) -> bytes:
    name = key.encode(errors="replace")
    return hmac.digest(secret, b"".join((len(name).to_bytes(4, "big"), name, version, document)), "sha256")


# --- in this process -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    value: bytes
    ends_at: Micros


class MemoryBackend:
    """Keeps bytes in this process, the least recently used leave first.

    Args:
        clock: the time now, by which entries end.
        max_entries: sessions kept at most.
        max_bytes: bytes of values kept at most; an open session has some 20 kB, a paid one 2 kB.
    """

    def __init__(self, clock: Clock, max_entries: int = 50_000, max_bytes: int = 128 * 1024 * 1024) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self._entries.clear()
        self._bytes = 0

    async def ping(self) -> None: ...

    async def get(self, key: str) -> bytes | None:
        entry = self._live(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.value

    async def set_if_newer(self, key: str, version: int, value: bytes, ttl_seconds: int) -> None:
        kept = self._live(key)
        if kept is not None and kept.version > version:
            return
        self._forget(key)
        if len(value) > self._max_bytes:
            return
        self._entries[key] = _Entry(version, value, self._clock() + ttl_seconds * SECOND)
        self._bytes += len(value)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._forget(next(iter(self._entries)))

    async def delete(self, key: str) -> None:
        self._forget(key)

    async def flush(self) -> None:
        self._entries.clear()
        self._bytes = 0

    def _live(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.ends_at <= self._clock():
            self._forget(key)
            return None
        return entry

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry.value)
