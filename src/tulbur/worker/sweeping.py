"""Sweeps over QPay's list of payments, when they are due."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from tulbur.errors import TulburError
from tulbur.payments import Payments, sweeping
from tulbur.worker.pace import LONGEST_PAUSE_SECONDS, log

SWEEP_SECONDS: Final = 5.0
"""How often it is asked whether a sweep is due; an outage of QPay's lasts longer."""


class Sweeper:
    """Sweeps once a day, after a downtime and after QPay's return, until it is told to stop; of many processes one."""

    def __init__(self, payments: Payments, *, owner: str) -> None:
        self._desk = payments.desk
        self._owner = owner
        self._started_at = self._desk.clock()
        self._away = False
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        pause = SWEEP_SECONDS
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return
            try:
                await self.once()
            except TulburError as error:
                log.warning("sweeping waits", extra={"error": error.message, "seconds": pause})
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - a defect must not end the loop
                log.exception("sweeping failed")
                pause = LONGEST_PAUSE_SECONDS
            else:
                pause = SWEEP_SECONDS

    def stop(self) -> None:
        self._stopping.set()

    async def once(self) -> None:
        """Sweep if it is time to; QPay is left alone while it does not answer."""
        if not self._desk.provider.answering():
            self._away = True
            return
        runs = await sweeping.by_itself(self._desk, self._owner, started_at=self._started_at, back=self._away)
        for run in runs:
            level = logging.INFO if run.report["seen"] == "all" else logging.WARNING
            told = {name: value for name, value in run.report.items() if not isinstance(value, list)}
            log.log(level, "swept", extra={"reason": run.reason, **told})
        if runs and all(run.report["seen"] == "all" for run in runs):
            self._away = False
