"""The loops behind the callbacks: sessions whose look is due, numbers for events, sessions of the old shop's Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final

from tulbur.core.session import Session
from tulbur.errors import TulburError
from tulbur.payments import Payments
from tulbur.payments.following import follow, unmatched_of

BATCH: Final = 20
"""Sessions claimed at once; with `AT_ONCE` questions under way and QPay's time limits a batch ends within its lease."""

AT_ONCE: Final = 8
LEASE_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
EVENTS: Final = 200

FOLLOW_SECONDS: Final = 2.0
"""Pause between two readings of the old shop's Redis; a new session is stored within about so long."""

FOLLOW_SHARE: Final = 9
"""A pause is at least so many times as long as the reading before it took: Redis is the shop's, too."""

FOLLOW_LEASE_SECONDS: Final = 30.0

_FOLLOWING: Final = "follow-old-shop"

_log = logging.getLogger("tulbur.worker")


class Worker:
    """Does what is due, again and again, until it is told to stop. Any number of them share one database."""

    def __init__(self, payments: Payments, *, owner: str) -> None:
        self._payments = payments
        self._desk = payments.desk
        self._owner = owner
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`; a database that does not answer is tried again, more and more slowly."""
        pause = IDLE_SECONDS
        while not self._stopping.is_set():
            try:
                busy = await self.once()
            except TulburError as error:
                _log.warning("worker waits", extra={"error": error.message, "seconds": pause})
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - a defect in one session must not stop the others
                _log.exception("worker failed")
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                pause = IDLE_SECONDS
                if busy:
                    continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    def stop(self) -> None:
        self._stopping.set()

    async def once(self) -> bool:
        """One round; True when a full batch was found, so that more may be waiting."""
        # Looks first: money must not wait for an outbox in trouble.
        looked = await self._looks()
        # There is no delivery yet: whoever wants events reads them, and nobody is kept waiting for.
        numbered = await self._desk.store.publish(EVENTS, deliver=False)
        return numbered == EVENTS or looked == BATCH

    async def _looks(self) -> int:
        # Claiming is a write: while QPay does not answer, due sessions stay unclaimed.
        if not self._desk.provider.answering():
            return 0
        due = await self._desk.store.claim_due(self._desk.clock(), self._owner, BATCH, LEASE_SECONDS)
        at_once = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._look(session, at_once) for session in due))
        return len(due)

    async def _look(self, session: Session, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            try:
                await self._payments.look(session)
            except TulburError as error:
                # The lease ends by itself, and the session is due again.
                _log.warning("a look failed", extra={"session_id": session.id, "error": error.message})
            except Exception:  # noqa: BLE001 - a defect in one session must not stop the others
                _log.exception("a look failed", extra={"session_id": session.id})


class Follower:
    """Stores what the old shop puts into its Redis, until it is told to stop; of many processes one does it."""

    def __init__(self, payments: Payments, *, owner: str) -> None:
        self._payments = payments
        self._desk = payments.desk
        self._owner = owner
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        pause = FOLLOW_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                await self.once()
            except TulburError as error:
                _log.warning("following waits", extra={"error": error.message, "seconds": pause})
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - a defect in one session must not stop the others
                _log.exception("following failed")
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                pause = max(FOLLOW_SECONDS, FOLLOW_SHARE * (time.monotonic() - started))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
        with contextlib.suppress(TulburError):
            await self._desk.store.lease(_FOLLOWING, self._owner, 0)

    def stop(self) -> None:
        self._stopping.set()

    async def once(self) -> None:
        """One reading; hints that came while Redis was away find their sessions."""
        if not await self._desk.store.lease(_FOLLOWING, self._owner, FOLLOW_LEASE_SECONDS):
            return
        new = await follow(self._desk)
        for hint in await unmatched_of(self._desk, new):
            await self._payments.callback(hint.hinted_session_id, hint.payment_id)
