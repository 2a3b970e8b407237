"""Sessions whose look is due, payments without a session, and numbers for events."""

from __future__ import annotations

import asyncio
from typing import Final

from tulbur.core.session import Session
from tulbur.errors import TulburError
from tulbur.payments import Payments, matching
from tulbur.ports import Unmatched
from tulbur.worker.pace import EVENTS, LEASE_SECONDS, keep_on, log

BATCH: Final = 32
"""Sessions claimed at once; with `AT_ONCE` questions under way and QPay's time limits a batch ends within its lease."""

AT_ONCE: Final = 16
"""Questions under way at once. Late money takes two of 0.2 s: one worker settles 10,000 sessions within 10 minutes."""


class Worker:
    """Does what is due, again and again, until it is told to stop. Any number of them share one database.

    `publishing` False: a `Deliverer` numbers the events.
    """

    def __init__(self, payments: Payments, *, owner: str, publishing: bool = True) -> None:
        self._payments = payments
        self._desk = payments.desk
        self._owner = owner
        self._publishing = publishing
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`; a database that does not answer is tried again, more and more slowly."""
        await keep_on(self.once, self._stopping, "worker")

    def stop(self) -> None:
        self._stopping.set()

    async def once(self) -> bool:
        """One round; True when a full batch was found, so that more may be waiting."""
        # Looks first: money must not wait for an outbox in trouble.
        looked = await self._looks()
        matched = await self._unmatched()
        # Without a shop to tell, whoever wants events reads them, and nobody is kept waiting for.
        numbered = await self._desk.store.publish(EVENTS, deliver=False) if self._publishing else 0
        return numbered == EVENTS or BATCH in (looked, matched)

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
                log.warning("a look failed", extra={"session_id": session.id, "error": error.message})
            except Exception:  # noqa: BLE001 - a defect in one session must not stop the others
                log.exception("a look failed", extra={"session_id": session.id})

    async def _unmatched(self) -> int:
        if not self._desk.provider.answering():
            return 0
        due = await self._desk.store.unmatched_due(self._desk.clock(), BATCH)
        at_once = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._match(row, at_once) for row in due))
        return len(due)

    async def _match(self, row: Unmatched, at_once: asyncio.Semaphore) -> None:
        async with at_once:
            try:
                await matching.look(self._desk, row)
            except TulburError as error:
                # It is due again when its claim has ended.
                log.warning("a payment's look failed", extra={"payment_id": row.payment_id, "error": error.message})
            except Exception:  # noqa: BLE001 - a defect with one payment must not stop the others
                log.exception("a payment's look failed", extra={"payment_id": row.payment_id})
