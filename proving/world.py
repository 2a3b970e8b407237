"""Everything one run consists of: a database, a QPay, a cache, and processes that are killed and come back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeVar, cast

from proving.faults import Fault, Faults, nobody
from proving.faulty_cache import FaultyBackend, Shelf
from proving.faulty_qpay import Line, Sight
from proving.faulty_store import FaultyStore, TrueStore
from proving.loop import OWNER, Loop
from proving.oracle import MOST_SKEW_SECONDS, Broken, Oracle, told_by
from proving.qpay import SmallQPay
from tulbur.cache import MemoryBackend, SessionCache
from tulbur.core.session import SECOND, Micros, Reason, Session
from tulbur.errors import TulburError
from tulbur.links import Links
from tulbur.payments import Payments
from tulbur.payments.desk import Desk
from tulbur.ports import Cache, Provider, Store, SweepRun
from tulbur.stores.memory import MemoryData
from tulbur.worker import Worker

T = TypeVar("T")

START: Final[Micros] = 1_790_000_000 * SECOND
KEYS: Final = ("a-key-only-for-tests-0123456789abcdef",)
LINKS: Final = Links("http://127.0.0.1:9", KEYS)

STOPPED_SECONDS: Final = 60
LONGEST_PAUSE_SECONDS: Final = 60.0

EVENTS_SECONDS: Final = 20.0
"""How long events wait for their numbers, where no look is due before."""

AT_ONCE: Final = 0.4
"""Share of the rounds for which a process wakes on the dot."""


class Silent:
    """Hears everything and says nothing."""

    def loaded(self, session_id: str, source: str) -> None: ...

    def called_back(self, outcome: str, seconds: float) -> None: ...

    def asked(self, reason: Reason) -> None: ...

    def changed(self, session: Session) -> None: ...

    def unmatched(self, session_id: str, payment_id: str) -> None: ...

    def swept(self, run: SweepRun) -> None: ...


SILENT: Final = Silent()


class Gone(Exception):
    """Nobody answered: the process died, none was there, or the client left."""


@dataclass(frozen=True)
class Parts:
    """What is on trial; a test puts a broken part in, to show that the laws notice."""

    store: type[TrueStore] = TrueStore
    way_to_store: type[FaultyStore] = FaultyStore
    payments: type[Payments] = Payments


SOUND: Final = Parts()


class World:
    """`rng` drives shops, payers and processes; the loop and the faults have chances of their own."""

    def __init__(
        self,
        loop: Loop,
        faults: Faults,
        rng: Random,
        tell: Callable[[str], None] = nobody,
        parts: Parts | None = None,
    ) -> None:
        self.loop, self.faults, self.rng, self.tell = loop, faults, rng, tell
        self._numbers = itertools.count(1)
        self.data = MemoryData()
        self.qpay = SmallQPay(self.clock)
        self.oracle = Oracle(self.data, self.qpay.bills, self._stored, self.clock, self.broken, tell)
        self.sight = Sight()
        self.parts = parts or SOUND
        self.store = self.parts.store(self.clock, self.data, self.oracle, faults, self.new_id, self._written)
        self.processes: list[Process] = []
        count = rng.choice((1, 1, 2, 3))
        shared = Shelf(MemoryBackend(self.clock)) if rng.random() < 0.7 else None
        self._shelves = [shared or Shelf(MemoryBackend(self.clock)) for _ in range(count)]
        self._final_only = shared is None and count > 1
        for place in range(count):
            self.start(place)

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
        """Start a process in a place; it shares database, QPay and perhaps the cache with the others."""
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

    def _leaves(self, task: asyncio.Task[Any], steps: int) -> None:
        if steps:
            self.loop.call_soon(self._leaves, task, steps - 1)
        else:
            task.cancel()

    # --- work that is due

    def next_due(self) -> Micros | None:
        due = [row["next_check_at"] for row in self.data.sessions.values() if row["next_check_at"] is not None]
        return min(due, default=None)

    def _written(self) -> None:
        for process in self.processes:
            process.rearm()


class Process:
    """One process of tulbur: use cases and worker over ports of its own, and a clock that may be off."""

    def __init__(self, world: World, place: int, skew: int, shelf: Shelf, *, final_only: bool) -> None:
        self._world = world
        self.place = place
        self.dead = False
        self._skew = skew
        self._stopped_until = 0.0
        self._tasks: list[asyncio.Task[Any]] = []
        self._alarm: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pause = 1.0
        cache = SessionCache(FaultyBackend(shelf, self, world.faults), KEYS, self.clock, final_only=final_only)
        store = world.parts.way_to_store(world.store, self, world.faults, world.clock)
        line = Line(world.qpay, world.sight, self, world.faults, world.oracle, world.clock)
        desk = Desk(
            store=cast("Store", store),
            cache=cast("Cache", cache),
            provider=cast("Provider", line),
            links=LINKS,
            sink=SILENT,
            clock=self.clock,
            new_id=world.new_id,
        )
        self.payments = world.parts.payments(desk)
        self._worker = Worker(self.payments, owner=f"w{world.new_id()}")

    def clock(self) -> Micros:
        return self._world.clock() + self._skew

    def run(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run in this process: what it starts dies with it."""
        context = copy_context()
        context.run(OWNER.set, self._tasks)
        return self._world.loop.create_task(coro, context=context)

    async def may_go_on(self) -> None:
        if self.dead:
            raise asyncio.CancelledError
        faults, loop = self._world.faults, self._world.loop
        if faults.fires(Fault.KILLED):
            self.kill()
            raise asyncio.CancelledError
        if faults.fires(Fault.STOPPED):
            self._stopped_until = loop.time() + STOPPED_SECONDS
        if self._stopped_until > loop.time():
            await asyncio.sleep(self._stopped_until - loop.time())

    def kill(self) -> None:
        """Nothing of it runs on: its tasks end where they are, and its ports answer nobody."""
        self.dead = True
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._world.started_again(self)

    # --- the worker, woken when something is due instead of once a second

    def work(self) -> None:
        self.run(self._work())

    async def _work(self) -> None:
        while True:
            try:
                busy = await self._worker.once()
            except TulburError:
                busy = False
                self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            if not busy:
                await self._due()

    async def _due(self) -> None:
        self._alarm = self._world.loop.create_future()
        self.rearm()
        await self._alarm

    def rearm(self) -> None:
        """Plan the next round: when the next look is due by this clock; while nothing comes of it, later and later."""
        if self._alarm is None or self._alarm.done() or self.dead:
            return
        loop, due = self._world.loop, self._world.next_due()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is None and not self._world.data.waiting:
            self._pause = 1.0
            return
        seconds = (due - self.clock()) / SECOND if due is not None else EVENTS_SECONDS
        if seconds > 0:
            self._pause = 1.0
        # Now and then several wake at once; else one of them finds that the work is done.
        patience = self._world.rng.random()
        wait = self._pause * (1 + patience) if patience > AT_ONCE else self._pause
        self._timer = loop.call_later(max(seconds, 0) + wait, self._ring)

    def _ring(self) -> None:
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE_SECONDS)
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)
