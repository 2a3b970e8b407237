"""Who else is there besides QPay, as a forked process reaches them: the shop that is told, and the old shop's Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from proving.crash.bank import Line
from tulbur.core.moving import OldSession
from tulbur.ports import Delivery, NumberedEvent, Outcome


class Told:
    """Implements `ports.Shop`: what is delivered is known to the process that forked."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def deliver(self, numbered: NumberedEvent) -> Delivery:
        await asyncio.sleep(0)
        took = self._line.ask("deliver", numbered.no, numbered.event.id)
        return Delivery(Outcome.DELIVERED, 200) if took else Delivery(Outcome.REFUSED, 503)


class OldRedis:
    """Implements `ports.OldShop`."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def read(self, session_id: str) -> OldSession | None:
        await asyncio.sleep(0)
        return next((old for old in self._line.ask("old_sessions") if old.id == session_id), None)

    async def changed(self) -> AsyncIterator[Sequence[OldSession]]:
        await asyncio.sleep(0)
        yield self._line.ask("old_sessions")
