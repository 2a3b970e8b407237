"""The cache as one process sees it: it forgets, fails, is slow and lies."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from proving.faults import Fault, Faults
from proving.host import Host
from tulbur.cache import MemoryBackend


@dataclass
class Shelf:
    """Where cached bytes lie, with what lay there before; processes may share one."""

    backend: MemoryBackend
    older: dict[str, list[bytes]] = field(default_factory=dict)


class FaultyBackend:
    """One process's way to a shelf."""

    def __init__(self, shelf: Shelf, host: Host, faults: Faults) -> None:
        self._shelf, self._host, self._faults = shelf, host, faults
        self._reads = faults.among(
            Fault.CACHE_MISS,
            Fault.CACHE_ERROR,
            Fault.CACHE_SLOW,
            Fault.CACHE_STALE,
            Fault.CACHE_OTHERS,
            Fault.CACHE_GARBAGE,
            Fault.CACHE_FLUSHED,
        )
        self._writes = faults.among(Fault.CACHE_UNWRITTEN, Fault.CACHE_ERROR, Fault.CACHE_SLOW)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def ping(self) -> None: ...

    async def get(self, key: str) -> bytes | None:
        await self._host.may_go_on()
        fault = self._faults.one_of(self._reads)
        if fault is Fault.CACHE_FLUSHED:
            self._faults.count(fault)
            await self._shelf.backend.stop()
        await self._trouble(fault)
        value = await self._shelf.backend.get(key)
        lie = self._lie(fault, key, value)
        if lie == value:
            return value
        if fault is not None:
            self._faults.count(fault)
        return lie

    def _lie(self, fault: Fault | None, key: str, value: bytes | None) -> bytes | None:
        if fault is Fault.CACHE_MISS:
            return None
        if fault is Fault.CACHE_STALE and self._shelf.older.get(key):
            return self._faults.rng.choice(self._shelf.older[key])
        if fault is Fault.CACHE_OTHERS:
            others = [values[-1] for name, values in self._shelf.older.items() if name != key]
            return self._faults.rng.choice(others) if others else value
        if fault is Fault.CACHE_GARBAGE and value is not None:
            at = self._faults.rng.randrange(len(value))
            return value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
        return value

    async def set_if_newer(self, key: str, version: int, value: bytes, ttl_seconds: int) -> None:
        await self._host.may_go_on()
        fault = self._faults.one_of(self._writes)
        await self._trouble(fault)
        if fault is Fault.CACHE_UNWRITTEN:
            self._faults.count(fault)
            return
        self._shelf.older.setdefault(key, []).append(value)
        await self._shelf.backend.set_if_newer(key, version, value, ttl_seconds)

    async def delete(self, key: str) -> None:
        await self._host.may_go_on()
        await self._shelf.backend.delete(key)

    async def flush(self) -> None:
        await self._host.may_go_on()
        await self._shelf.backend.flush()

    async def _trouble(self, fault: Fault | None) -> None:
        if fault is Fault.CACHE_ERROR:
            self._faults.count(fault)
            raise ConnectionError
        if fault is Fault.CACHE_SLOW:
            self._faults.count(fault)
            await asyncio.sleep(self._faults.rng.uniform(0.01, 1))
