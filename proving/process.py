"""One process of tulbur: use cases and loops over ports of its own, and a clock that may be off; it can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from proving.faults import Fault
from proving.faulty_cache import FaultyBackend, Shelf
from proving.faulty_qpay import Line
from proving.faulty_shop import FaultyShop
from proving.faulty_spool import JudgedSpool
from proving.host import KEYS, LINKS, SILENT
from proving.loop import OWNER
from proving.old_redis import FaultyOldShop
from proving.uses import Use
from tulbur.cache import SessionCache
from tulbur.core.session import SECOND, Micros
from tulbur.errors import TulburError
from tulbur.payments.desk import Desk
from tulbur.ports import Cache, OldShop, Provider, Store
from tulbur.worker import Cleaner, Follower, Sweeper, Worker

if TYPE_CHECKING:
    from proving.world import World

T = TypeVar("T")

STOPPED_SECONDS: Final = 60
LONGEST_PAUSE_SECONDS: Final = 60.0

EVENTS_SECONDS: Final = 20.0
"""How long events wait for their numbers, where no look is due before."""

AT_ONCE: Final = 0.4
"""Share of the rounds for which a process wakes on the dot."""

SHORTEST_INTERVAL_SECONDS: Final = 300.0
LONGEST_INTERVAL_SECONDS: Final = 43_200.0
"""Between two rounds of sweeping or cleaning; the longer a run lasts the fewer there are, as little happens then."""


class Process:
    """One process of tulbur, in a `place` that the next one takes when it dies."""

    def __init__(self, world: World, place: int, skew: int, shelf: Shelf, *, final_only: bool) -> None:
        self._world = world
        self.place = place
        self.dead = False
        self._skew = skew
        self._stopped_until = 0.0
        self._mortal = bool(world.faults.among(Fault.KILLED, Fault.STOPPED))
        self._tasks: list[asyncio.Task[Any]] = []
        cache = SessionCache(FaultyBackend(shelf, self, world.faults), KEYS, self.clock, final_only=final_only)
        store = world.parts.way_to_store(world.store, self, world.faults, world.clock)
        line = Line(world.qpay, world.sight, self, world.faults, world.oracle, world.clock)
        self._spool = JudgedSpool(world.disk, KEYS, self, world.oracle, world.new_id) if world.disk else None
        redis = world.old_redis
        old_shop = FaultyOldShop(redis, self, world.faults, world.rng) if redis else None
        desk = Desk(
            store=cast("Store", store),
            cache=cast("Cache", cache),
            provider=cast("Provider", line),
            links=LINKS,
            sink=SILENT,
            clock=self.clock,
            new_id=world.new_id,
            old_shop=cast("OldShop", old_shop) if old_shop else None,
            spool=self._spool,
            rules=world.rules,
        )
        self.payments = world.parts.payments(desk)
        self._rounds: list[Rounds] = []

    def clock(self) -> Micros:
        return self._world.clock() + self._skew

    def run(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run in this process: what it starts dies with it."""
        context = copy_context()
        context.run(OWNER.set, self._tasks)
        return self._world.loop.create_task(coro, context=context)

    @property
    def in_danger(self) -> bool:
        return self.dead or self._stopped_until > 0 or (self._mortal and not self._world.faults.calm)

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
        for rounds in self._rounds:
            rounds.end()
        self._world.started_again(self)

    # --- its loops

    def work(self) -> None:
        """Start the loops that this shop makes use of."""
        world, uses, parts = self._world, self._world.uses, self._world.parts
        owner = f"w{world.new_id()}"
        telling = Use.WEBHOOK in uses
        worker = Worker(self.payments, owner=owner, publishing=not telling)
        self._rounds.append(Rounds(self, world, worker.once, self._looks_due))
        if telling:
            shop = FaultyShop(world.door, self, world.faults, world.oracle, world.clock)
            deliverer = parts.deliverer(self.payments, shop, owner=owner, chance=world.rng.random)
            self._rounds.append(Rounds(self, world, deliverer.once, world.next_event))
        if self._spool is not None:
            self.run(self._replaying(self._spool))
        for rounds in self._rounds:
            self.run(rounds.run())
        if world.old_redis is not None:
            self.run(self._every_now_and_then(Follower(self.payments, owner=owner).once))
        if Use.SWEEPS in uses:
            self.run(self._every_now_and_then(Sweeper(self.payments, owner=owner).once))
        if Use.CLEANING in uses:
            self.run(self._every_now_and_then(Cleaner(self.payments, world.keep, owner=owner).once))

    def rearm(self) -> None:
        for rounds in self._rounds:
            rounds.rearm()

    async def _replaying(self, spool: JudgedSpool) -> None:
        await spool.start()
        replayer = self._world.parts.replayer(self.payments, spool)
        rounds = Rounds(self, self._world, replayer.once, self._world.next_spooled)
        self._rounds.append(rounds)
        await rounds.run()

    async def _every_now_and_then(self, once: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(self._interval() * self._world.rng.uniform(0.3, 1))
            with self._world.bearing():
                await once()

    def _interval(self) -> float:
        age = self._world.loop.time()
        longest = LONGEST_INTERVAL_SECONDS if self._world.faults.calm else max(age / 12, LONGEST_INTERVAL_SECONDS)
        return min(max(age / 8, SHORTEST_INTERVAL_SECONDS), longest)

    def _looks_due(self) -> float | None:
        due = self._world.next_due()
        seconds = None if due is None else (due - self.clock()) / SECOND
        if not self._world.data.waiting or Use.WEBHOOK in self._world.uses:
            return seconds
        return EVENTS_SECONDS if seconds is None else min(seconds, EVENTS_SECONDS)


class Rounds:
    """A loop that is woken when its work is due instead of once a second.

    `due` says in how many seconds that is, or None; while nothing comes of the work, it is tried later and later.
    """

    def __init__(
        self, process: Process, world: World, once: Callable[[], Awaitable[object]], due: Callable[[], float | None]
    ) -> None:
        self._process, self._world, self._once, self._due = process, world, once, due
        self._alarm: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pause = 1.0

    async def run(self) -> None:
        while True:
            try:
                busy = await self._once()
            except TulburError:
                busy = False
                self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            if not busy:
                self._alarm = self._world.loop.create_future()
                self.rearm()
                await self._alarm

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def rearm(self) -> None:
        """Plan the next round for when the work is due."""
        if self._alarm is None or self._alarm.done() or self._process.dead:
            return
        seconds = self._due()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is None:
            self._pause = 1.0
            return
        if seconds > 0:
            self._pause = 1.0
        # Now and then several wake at once; else one of them finds that the work is done.
        patience = self._world.rng.random()
        wait = self._pause * (1 + patience) if patience > AT_ONCE else self._pause
        self._timer = self._world.loop.call_later(max(seconds, 0) + wait, self._ring)

    def _ring(self) -> None:
        self._pause = min(self._pause * 1.5, LONGEST_PAUSE_SECONDS)
        if self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)
