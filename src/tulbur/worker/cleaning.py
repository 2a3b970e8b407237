"""Retention, once an hour."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from tulbur.errors import StoreUnavailable, TulburError
from tulbur.payments import Payments
from tulbur.payments.cleaning import Cleaned, Keep, clean
from tulbur.worker.pace import LONGEST_PAUSE_SECONDS, log

CLEANING_SECONDS: Final = 3600.0

CLEANED_BATCHES: Final = 200
"""Batches of one hour's run: ten thousand sessions, more than a shop on one machine opens in an hour."""

CLEANING_PAUSE_SECONDS: Final = 0.2

_CLEANING: Final = "cleaning"


class Cleaner:
    """Blanks sessions whose time is over, once an hour and in small batches; of many processes one does it."""

    def __init__(self, payments: Payments, keep: Keep, *, owner: str) -> None:
        self._desk = payments.desk
        self._keep = keep
        self._owner = owner
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        while not self._stopping.is_set():
            pause = CLEANING_SECONDS
            try:
                await self.once()
            except TulburError as error:
                if self._stopping.is_set():
                    break
                log.warning("cleaning waits", extra={"error": error.message, "seconds": LONGEST_PAUSE_SECONDS})
                pause = LONGEST_PAUSE_SECONDS
            except Exception:  # noqa: BLE001 - a defect must not end the loop
                log.exception("cleaning failed")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    def stop(self) -> None:
        self._stopping.set()

    async def once(self) -> Cleaned | None:
        """One run; None when another process has had its run within the hour."""
        # Not given up at the end: it is what makes the runs of all processes one an hour.
        if not await self._desk.store.lease(_CLEANING, self._owner, CLEANING_SECONDS):
            return None
        report = await clean(self._desk, self._keep, pause=self._pause, most_batches=CLEANED_BATCHES)
        if report.waits or report.stuck or report.unreadable:
            left = [*report.stuck, *report.unreadable]
            log.warning("cleaning left something", extra={"error": report.waits, "sessions": left[:20]})
        return report

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), CLEANING_PAUSE_SECONDS)
        if self._stopping.is_set():
            raise StoreUnavailable("the process is stopping")
