"""The old shop's Redis beside ours: its keys end, and one process's way to it fails as the run's faults say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from proving.faults import Fault, Faults
from proving.host import Host
from tulbur.core.moving import OldSession
from tulbur.core.session import SECOND, Micros
from tulbur.errors import SourceUnavailable
from tulbur.ports import Clock

THEIRS: Final = 0.3
"""Share of the runs in which QPay calls the old shop."""


@dataclass
class OldRedis:
    """What the old shop keeps; `hears` says whose QPay's callbacks are, for they all go to one of the two systems.

    `orders` are those the old shop has made, by session and shop.
    """

    clock: Clock
    hears: bool
    keys: dict[str, OldSession] = field(default_factory=dict)
    orders: dict[str, Mapping[str, str]] = field(default_factory=dict)
    away_until: Micros = 0

    def read(self, session_id: str) -> OldSession | None:
        key = self.keys.get(session_id)
        return key if key is not None and self.clock() < (key.expires_at or 0) else None


class FaultyOldShop:
    """Implements `ports.OldShop` for one process, as `importer.keys.LiveKeys` does: each key again when it changed."""

    def __init__(self, redis: OldRedis, host: Host, faults: Faults, rng: Random) -> None:
        self._redis, self._host, self._faults, self._rng = redis, host, faults, rng
        self._seen: dict[str, str] = {}

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def read(self, session_id: str) -> OldSession | None:
        await self._answers()
        return self._redis.read(session_id)

    async def changed(self) -> AsyncIterator[Sequence[OldSession]]:
        seen: dict[str, str] = {}
        for id_ in list(self._redis.keys):
            await self._answers()
            old = self._redis.read(id_)
            if old is not None:
                seen[id_] = old.digest
                if self._seen.get(id_) != old.digest:
                    yield [old]
        self._seen = seen

    async def _answers(self) -> None:
        """Raise SourceUnavailable while that Redis is away for everybody."""
        await self._host.may_go_on()
        now = self._redis.clock()
        if self._redis.away_until <= now and self._faults.fires(Fault.OLD_AWAY):
            self._redis.away_until = now + int(self._rng.uniform(1, 900) * SECOND)
        await asyncio.sleep(0)
        if self._redis.away_until > now and not self._faults.calm:
            raise SourceUnavailable
        await self._host.may_go_on()
