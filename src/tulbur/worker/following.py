"""Sessions that the old shop has in its Redis alone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

from tulbur.errors import TulburError
from tulbur.payments import Payments
from tulbur.payments.following import follow, unmatched_of
from tulbur.worker.pace import LONGEST_PAUSE_SECONDS, log

FOLLOW_SECONDS: Final = 2.0
"""Pause between two readings of the old shop's Redis; a new session is stored within about so long."""

FOLLOW_SHARE: Final = 9
"""A pause is at least so many times as long as the reading before it took: Redis is the shop's, too."""

FOLLOW_LEASE_SECONDS: Final = 30.0

_FOLLOWING: Final = "follow-old-shop"


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
                log.warning("following waits", extra={"error": error.message, "seconds": pause})
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - a defect in one session must not stop the others
                log.exception("following failed")
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
            await self._payments.hear(hint.hinted_session_id, hint.payment_id)
