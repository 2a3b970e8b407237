"""Spooled callbacks on their way into the database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from tulbur.core.session import SECOND, Micros
from tulbur.errors import TulburError
from tulbur.payments import Payments
from tulbur.payments.spooling import replay
from tulbur.ports import Spool, Spooled
from tulbur.worker.pace import IDLE_SECONDS, keep_on, log

REPLAYED: Final = 100
"""Spooled callbacks read at once."""

LONGEST_REPLAY_PAUSE_SECONDS: Final = 5.0
"""A database that is back is noticed within so long."""

LONGEST_PUT_OFF_SECONDS: Final = 60.0
"""A callback whose replay fails by itself is tried again at least so often."""

MOST_FAILURES: Final = 5
"""Failures in a row that end a round: it is not the callback."""


@dataclass(frozen=True, slots=True)
class _PutOff:
    """A callback whose replay failed at a time, and is not tried again for so long."""

    at: Micros
    seconds: float

    def holds(self, now: Micros) -> bool:
        return self.at <= now < self.at + self.seconds * SECOND


class Replayer:
    """Brings spooled callbacks into the database, the first to arrive first, until it is told to stop.

    Every process with a spool does it. A file goes only when its callback is durable, so one that two processes
    replay at once, or that is replayed again after a kill, is a callback that came twice.
    """

    def __init__(self, payments: Payments, spool: Spool) -> None:
        self._payments = payments
        self._desk = payments.desk
        self._spool = spool
        self._put_off: dict[str, _PutOff] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        await keep_on(self.once, self._stopping, "replaying", LONGEST_REPLAY_PAUSE_SECONDS)

    def stop(self) -> None:
        self._stopping.set()

    async def once(self) -> bool:
        """One round; True when it was a full one without failures, so that more may be waiting."""
        now = self._desk.clock()
        held = {name for name, put_off in self._put_off.items() if put_off.holds(now)}
        spooled = await self._spool.waiting(REPLAYED, held)
        self._put_off = {name: self._put_off[name] for name in self._put_off if name in held or _among(name, spooled)}
        if not spooled:
            return False
        # While the database is away the callbacks need not be tried one by one.
        await self._desk.store.ping()
        failures = 0
        for one in spooled:
            if self._stopping.is_set() or failures == MOST_FAILURES:
                return False
            failures = 0 if await self._replay(one) else failures + 1
        return len(spooled) == REPLAYED and not self._put_off

    async def _replay(self, one: Spooled) -> bool:
        try:
            await replay(self._payments, one)
            await self._spool.done(one.name)
        except TulburError as error:
            log.warning("a replay failed", extra={"session_id": one.session_id, "error": error.message})
        except Exception:  # noqa: BLE001 - a defect in one session must not stop the others
            log.exception("a replay failed", extra={"session_id": one.session_id})
        else:
            self._put_off.pop(one.name, None)
            return True
        before = self._put_off.get(one.name)
        seconds = min(before.seconds * 2, LONGEST_PUT_OFF_SECONDS) if before else IDLE_SECONDS
        self._put_off[one.name] = _PutOff(self._desk.clock(), seconds)
        return False


def _among(name: str, spooled: list[Spooled]) -> bool:
    return any(one.name == name for one in spooled)
