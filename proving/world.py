"""Everything one run consists of: a database, a QPay, a cache, a shop, and processes that are killed and come back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar

from proving.disk import Disk
from proving.faults import Fault, Faults, nobody
from proving.faulty_cache import Shelf
from proving.faulty_qpay import Sight
from proving.faulty_shop import Door
from proving.faulty_store import FaultyStore, TrueStore
from proving.host import KEYS
from proving.loop import Loop
from proving.old_redis import THEIRS, OldRedis
from proving.oracle import MOST_SKEW_SECONDS, Broken, Oracle, told_by
from proving.process import Process
from proving.qpay import SmallQPay
from proving.uses import KEEPS, Use
from tulbur.cache import MemoryBackend
from tulbur.core.rules import Rules
from tulbur.core.session import RECEIVED, SECOND, Micros, Session
from tulbur.core.settling import SeenPayment
from tulbur.errors import TulburError
from tulbur.payments import Payments
from tulbur.ports import Spooled
from tulbur.stores.memory import MemoryData
from tulbur.stores.rows import EventState
from tulbur.worker import Deliverer, Replayer

T = TypeVar("T")

START: Final[Micros] = 1_790_000_000 * SECOND


class Gone(Exception):
    """Nobody answered: the process died, none was there, or the client left."""


@dataclass(frozen=True)
class Parts:
    """What is on trial; a test puts a broken part in, to show that the laws notice."""

    store: type[TrueStore] = TrueStore
    way_to_store: type[FaultyStore] = FaultyStore
    payments: type[Payments] = Payments
    deliverer: type[Deliverer] = Deliverer
    replayer: type[Replayer] = Replayer


SOUND: Final = Parts()


class World:
    """`rng` drives shops, payers and processes; the loop and the faults have chances of their own.

    `uses` is what of tulbur this shop makes use of.
    """

    def __init__(
        self,
        loop: Loop,
        faults: Faults,
        rng: Random,
        tell: Callable[[str], None] = nobody,
        parts: Parts | None = None,
        uses: frozenset[Use] = frozenset(),
    ) -> None:
        self.loop, self.faults, self.rng, self.tell, self.uses = loop, faults, rng, tell, uses
        self._numbers = itertools.count(1)
        self.data = MemoryData()
        self.qpay = SmallQPay(self.clock, page_rows=rng.choice((2, 3, 100)))
        self.rules = Rules(review_late=Use.REVIEW_LATE in uses, cancel_expired=Use.CANCEL_EXPIRED in uses)
        self.keep = rng.choice(KEEPS)
        self.old_redis = OldRedis(self.clock, rng.random() < THEIRS) if Use.OLD_SHOP in uses else None
        self.disk = Disk(loop, faults, KEYS, self._written) if Use.SPOOL in uses else None
        loop.disk = self.disk.run if self.disk else None
        self.oracle = Oracle(
            self.data,
            self.qpay.bills,
            self._stored,
            self.clock,
            self.broken,
            tell,
            visible=self.visible,
            spooled=self.spooled,
            cancels_expired=self.rules.cancel_expired,
            ordered_there=self.old_redis.orders if self.old_redis else {},
        )
        self.sight = Sight()
        self.door = Door()
        self.parts = parts or SOUND
        self.store = self.parts.store(self.clock, self.data, self.oracle, faults, self.new_id, self._written)
        self.processes: list[Process] = []
        count = rng.choice((1, 1, 2, 3))
        shared = Shelf(MemoryBackend(self.clock)) if rng.random() < 0.7 else None
        self._shelves = [shared or Shelf(MemoryBackend(self.clock)) for _ in range(count)]
        self._final_only = shared is None and count > 1
        for place in range(count):
            self.start(place)

    def close(self) -> None:
        if self.disk is not None:
            self.disk.close()

    def _stored(self, session_id: str) -> Session:
        return self.store.judged(session_id)

    def clock(self) -> Micros:
        return START + int(self.loop.time() * SECOND)

    def new_id(self) -> str:
        return f"{next(self._numbers):032x}"

    def broken(self, law: Broken) -> None:
        if self.loop.halt is None:
            self.loop.halt = law

    # --- processes

    def start(self, place: int) -> None:
        """Start a process in a place; it shares database, QPay, spool and perhaps the cache with the others."""
        skew = 0
        if self.faults.fires(Fault.CLOCK_OFF):
            skew = self.rng.randrange(-MOST_SKEW_SECONDS, MOST_SKEW_SECONDS) * SECOND
        process = Process(self, place, skew, self._shelves[place], final_only=self._final_only)
        self.processes.append(process)
        process.work()

    def started_again(self, process: Process) -> None:
        self.processes.remove(process)
        self.tell(f"process {process.place} is killed")
        self.loop.call_later(self.rng.uniform(0, 30), self.start, process.place)

    def process(self) -> Process:
        """Any process that runs.

        Raises:
            Gone: none does.
        """
        if not self.processes:
            raise Gone
        return self.rng.choice(self.processes)

    async def ask(self, make: Callable[[Payments], Coroutine[Any, Any, T]]) -> T:
        """Ask one of the processes, as a client does over the network.

        Raises:
            Gone: no answer came.
            TulburError: that was the answer.
        """
        process = self.process()
        task = process.run(make(process.payments))
        if self.faults.fires(Fault.CLIENT_GONE):
            self._leaves(task, self.faults.rng.randrange(60))
        await asyncio.wait({task})
        if task.cancelled():
            raise Gone
        error = task.exception()
        if error is None:
            return task.result()
        if not isinstance(error, TulburError):
            self.broken(Broken(f"an error nobody foresaw: {error!r} {told_by(error)}"))
            raise Gone from error
        raise error

    @contextlib.contextmanager
    def bearing(self) -> Iterator[None]:
        """Around one round of a loop, which survives what is foreseen and tries again the next time."""
        try:
            yield
        except TulburError as error:
            self.tell(f"a round ends: {error!r}")

    def _leaves(self, task: asyncio.Task[Any], steps: int) -> None:
        if steps:
            self.loop.call_soon(self._leaves, task, steps - 1)
        else:
            task.cancel()

    # --- what QPay shows, and what waits

    def visible(self) -> dict[str, SeenPayment]:
        """The money that QPay shows to whoever asks now."""
        now = self.clock()
        shown = (p for bill in self.qpay.bills.values() for p in bill.payments)
        return {p.id: p for p in shown if p.status in RECEIVED and self.sight.from_.get(p.id, 0) <= now}

    def spooled(self) -> list[Spooled]:
        return self.disk.waiting() if self.disk is not None else []

    def next_due(self) -> Micros | None:
        """When the next look is due, at a session or at a payment without one."""
        due = [row["next_check_at"] for row in self.data.sessions.values() if row["next_check_at"] is not None]
        for row in self.data.payments.values():
            if row["session_id"] is None and row["due_at"] is not None:
                due.append(row["due_at"])  # noqa: PERF401 - twice as fast, and asked at every write
        return min(due, default=None)

    def next_event(self) -> float | None:
        """In how many seconds the next event may be delivered, of each session its first."""
        first: dict[str, dict[str, Any]] = {}
        for row in map(self.data.events.__getitem__, self.data.waiting):
            earlier = first.setdefault(row["session_id"], row)
            if row["seq"] < earlier["seq"]:
                first[row["session_id"]] = row
        now = self.clock()
        waits = (row["lease_until"] - now if row["state"] == EventState.NUMBERED else 0 for row in first.values())
        soonest = min(waits, default=None)
        return None if soonest is None else soonest / SECOND

    def next_spooled(self) -> float | None:
        return None if self.disk is None or self.disk.is_empty() else 0.0

    def idle_seconds(self) -> float | None:
        """How long nothing is due; None when nothing is due at all."""
        due, waits = self.next_due(), [self.next_spooled(), self.next_event()]
        if due is not None:
            waits.append((due - self.clock()) / SECOND)
        return min((max(seconds, 0.0) for seconds in waits if seconds is not None), default=None)

    def _written(self) -> None:
        for process in self.processes:
            process.rearm()
