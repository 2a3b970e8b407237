"""The loops behind the callbacks: due looks, events and the shop, the old Redis, the spool, retention, sweeps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Final

from tulbur.core.session import SECOND, Micros, Session
from tulbur.errors import StoreUnavailable, TulburError
from tulbur.payments import Payments, matching, sweeping
from tulbur.payments.cleaning import Cleaned, Keep, clean
from tulbur.payments.delivering import Chance, Delivered, deliver
from tulbur.payments.following import follow, unmatched_of
from tulbur.payments.spooling import replay
from tulbur.ports import ANSWERED, NumberedEvent, Shop, Spool, Spooled, Unmatched

BATCH: Final = 20
"""Sessions claimed at once; with `AT_ONCE` questions under way and QPay's time limits a batch ends within its lease."""

AT_ONCE: Final = 8
LEASE_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
EVENTS: Final = 200

DELIVERED_AT_ONCE: Final = 16
"""Events leased and sent at once, of as many sessions; the shop's time limit ends well within their lease."""

FOLLOW_SECONDS: Final = 2.0
"""Pause between two readings of the old shop's Redis; a new session is stored within about so long."""

FOLLOW_SHARE: Final = 9
"""A pause is at least so many times as long as the reading before it took: Redis is the shop's, too."""

FOLLOW_LEASE_SECONDS: Final = 30.0

SWEEP_SECONDS: Final = 5.0
"""How often it is asked whether a sweep is due; an outage of QPay's lasts longer."""

REPLAYED: Final = 100
"""Spooled callbacks read at once."""

LONGEST_REPLAY_PAUSE_SECONDS: Final = 5.0
"""A database that is back is noticed within so long."""

LONGEST_PUT_OFF_SECONDS: Final = 60.0
"""A callback whose replay fails by itself is tried again at least so often."""

MOST_FAILURES: Final = 5
"""Failures in a row that end a round: it is not the callback."""

CLEANING_SECONDS: Final = 3600.0
CLEANED_BATCHES: Final = 200
"""Batches of one hour's run: ten thousand sessions, more than a shop on one machine opens in an hour."""

CLEANING_PAUSE_SECONDS: Final = 0.2

_CLEANING: Final = "cleaning"
_FOLLOWING: Final = "follow-old-shop"

_log = logging.getLogger("tulbur.worker")


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
                _log.warning("a look failed", extra={"session_id": session.id, "error": error.message})
            except Exception:  # noqa: BLE001 - a defect in one session must not stop the others
                _log.exception("a look failed", extra={"session_id": session.id})

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
                _log.warning("a payment's look failed", extra={"payment_id": row.payment_id, "error": error.message})
            except Exception:  # noqa: BLE001 - a defect with one payment must not stop the others
                _log.exception("a payment's look failed", extra={"payment_id": row.payment_id})


class Deliverer:
    """Sends events to the shop until it is told to stop. Any number of them share one database.

    The store leases a session's events one after the other, so each session is told in order, however many are told
    at once.
    """

    def __init__(self, payments: Payments, shop: Shop, *, owner: str, chance: Chance) -> None:
        self._desk = payments.desk
        self._shop = shop
        self._owner = owner
        self._chance = chance
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        pause = IDLE_SECONDS
        while not self._stopping.is_set():
            try:
                busy = await self.once()
            except TulburError as error:
                _log.warning("delivering waits", extra={"error": error.message, "seconds": pause})
                busy = None
            except Exception:  # noqa: BLE001 - a defect must not end the loop
                _log.exception("delivering failed")
                busy = None
            if busy:
                pause = IDLE_SECONDS
                continue
            pause = IDLE_SECONDS if busy is False else min(pause * 2, LONGEST_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    def stop(self) -> None:
        self._stopping.set()

    async def once(self) -> bool | None:
        """One round; True when more may be waiting, None when the shop answered none of what was sent."""
        numbered = await self._desk.store.publish(EVENTS)
        leased = await self._desk.store.claim_events(self._owner, DELIVERED_AT_ONCE, LEASE_SECONDS)
        done = [one for one in await asyncio.gather(*map(self._deliver, leased)) if one is not None]
        if done and not any(one.delivery.outcome in ANSWERED for one in done):
            return None
        return numbered == EVENTS or len(leased) == DELIVERED_AT_ONCE or any(one.ok for one in done)

    async def _deliver(self, numbered: NumberedEvent) -> Delivered | None:
        told = {"event_id": numbered.event.id, "session_id": numbered.session_id, "type": numbered.event.type}
        try:
            done = await deliver(
                self._desk.store,
                self._shop,
                numbered,
                owner=self._owner,
                clock=self._desk.clock,
                chance=self._chance,
            )
        except TulburError as error:
            # The lease ends by itself, and the event is sent again.
            _log.warning("a delivery was not written down", extra={**told, "error": error.message})
            return None
        except Exception:  # noqa: BLE001 - a defect in one event must not stop the others
            _log.exception("a delivery failed", extra=told)
            return None
        if not done.ok:
            why = {"outcome": done.delivery.outcome.value, "status": done.delivery.status}
            level, text = (logging.ERROR, "an event is parked") if done.parked else (logging.WARNING, "not delivered")
            _log.log(level, text, extra={**told, **why, "attempts": numbered.attempts + 1})
        return done


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
            await self._payments.hear(hint.hinted_session_id, hint.payment_id)


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
                _log.warning("cleaning waits", extra={"error": error.message, "seconds": LONGEST_PAUSE_SECONDS})
                pause = LONGEST_PAUSE_SECONDS
            except Exception:  # noqa: BLE001 - a defect must not end the loop
                _log.exception("cleaning failed")
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
        if report.waits or report.stuck:
            _log.warning("cleaning left something", extra={"error": report.waits, "sessions": report.stuck[:20]})
        return report

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), CLEANING_PAUSE_SECONDS)
        if self._stopping.is_set():
            raise StoreUnavailable("the process is stopping")


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
                _log.warning("sweeping waits", extra={"error": error.message, "seconds": pause})
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - a defect must not end the loop
                _log.exception("sweeping failed")
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
            _log.log(level, "swept", extra={"reason": run.reason, **told})
        if runs and all(run.report["seen"] == "all" for run in runs):
            self._away = False


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
        pause = IDLE_SECONDS
        while not self._stopping.is_set():
            try:
                busy = await self.once()
            except TulburError as error:
                _log.warning("replaying waits", extra={"error": error.message, "seconds": pause})
                pause = min(pause * 2, LONGEST_REPLAY_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001 - a defect must not end the loop
                _log.exception("replaying failed")
                pause = min(pause * 2, LONGEST_REPLAY_PAUSE_SECONDS)
            else:
                pause = IDLE_SECONDS
                if busy:
                    continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

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
            _log.warning("a replay failed", extra={"session_id": one.session_id, "error": error.message})
        except Exception:  # noqa: BLE001 - a defect in one session must not stop the others
            _log.exception("a replay failed", extra={"session_id": one.session_id})
        else:
            self._put_off.pop(one.name, None)
            return True
        before = self._put_off.get(one.name)
        seconds = min(before.seconds * 2, LONGEST_PUT_OFF_SECONDS) if before else IDLE_SECONDS
        self._put_off[one.name] = _PutOff(self._desk.clock(), seconds)
        return False


def _among(name: str, spooled: list[Spooled]) -> bool:
    return any(one.name == name for one in spooled)
