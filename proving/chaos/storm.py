"""One fault after the other, in an order by chance: each that is listed at least once, then any of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, TypeAlias

from proving.chaos.faults import OF_PAYERS, Fault
from proving.chaos.places import File, Nodes
from proving.chaos.processes import Process
from proving.chaos.stage import Stage
from tulbur.simulator.faults import OPERATIONS, Faults

EACH_SECONDS: Final = 3.0
"""What one fault takes on average, its pause with it: the shortest storm has so much for each."""

HOLD_SECONDS: Final = (0.5, 2.5)
"""How long what lasts lasts."""

PAUSE_SECONDS: Final = (0.2, 1.0)

STRIKE_SECONDS: Final = 150
"""How long is waited until somebody has met a fault: QPay's breaker lets nobody ask for up to a minute."""

AGAIN_SECONDS: Final = 1.0

DELAYS: Final = {"database": 0.3, "cache": 0.3, "qpay": 2.0}
"""Seconds by which the answers of a slow one are late."""

KEEPALIVE_SECONDS: Final = 60
"""How long a connection is half-open before TCP notices: what tulbur asks PostgreSQL for."""

INVOICE: Final = b"POST /v2/invoice "


def shortest(faults: Sequence[Fault]) -> float:
    """Seconds below which not each of them would be met."""
    return EACH_SECONDS * sum(fault not in OF_PAYERS for fault in faults)


class Storm:
    """Strikes at the stage; `told` is what it did, and when."""

    def __init__(self, stage: Stage, rng: random.Random, faults: Sequence[Fault]) -> None:
        self._stage = stage
        self._rng = rng
        self._faults = [fault for fault in faults if fault not in OF_PAYERS]
        self._began = time.monotonic()
        self.told: list[str] = []

    async def run(self, seconds: float) -> None:
        """So long, or longer where a loaded machine takes longer to meet each fault once."""
        for fault in self._order(seconds):
            self.told.append(f"{time.monotonic() - self._began:7.1f} s  {fault}")
            print(self.told[-1], file=sys.stderr, flush=True)
            await STRIKES[fault](self, fault)
            await asyncio.sleep(self._rng.uniform(*PAUSE_SECONDS))

    def _order(self, seconds: float) -> Iterator[Fault]:
        yield from self._rng.sample(self._faults, len(self._faults))
        more = [fault for fault in self._faults if fault not in self._stage.database.once]
        while more and time.monotonic() - self._began < seconds:
            yield self._rng.choice(more)

    async def hold(self) -> None:
        await asyncio.sleep(self._rng.uniform(*HOLD_SECONDS))

    # --- servers and processes

    async def kill_database(self, fault: Fault) -> None:
        place, way = self._stage.database, self._stage.ways.get("database")
        elsewhere = await asyncio.to_thread(place.kill)
        self._stage.board.strike(fault)
        if elsewhere and way is not None:
            way.aim(elsewhere)
            way.reset()
        if isinstance(place, Nodes):
            await self.hold()
            await asyncio.to_thread(place.mend)

    async def kill_cache(self, fault: Fault) -> None:
        await asyncio.to_thread(self._stage.cache.kill)
        self._stage.board.strike(fault)

    async def stop_database(self, fault: Fault) -> None:
        await self._within(fault, self._stage.database.stopped())

    async def stop_cache(self, fault: Fault) -> None:
        await self._within(fault, self._stage.cache.stopped())

    async def lock_file(self, fault: Fault) -> None:
        await self._within(fault, self._file.locked())

    async def move_file(self, fault: Fault) -> None:
        await self._within(fault, self._file.away())

    async def flush(self, fault: Fault) -> None:
        await asyncio.to_thread(self._stage.cache.flush)
        self._stage.board.strike(fault)

    async def kill_process(self, fault: Fault) -> None:
        process = self._one_of(fault)
        await process.kill()
        self._stage.board.strike(fault)
        await self.hold()
        await process.start()

    async def stop_process(self, fault: Fault) -> None:
        await self._within(fault, self._one_of(fault).stopped())

    # --- on the way

    async def refuse(self, way: str, fault: Fault) -> None:
        proxy = self._stage.ways[way]
        proxy.refusing = True
        await self._until_met(fault, proxy.reset)
        await self.hold()
        proxy.behave()

    async def cut_answer(self, way: str, fault: Fault) -> None:
        proxy = self._stage.ways[way]
        await self._until_met(fault, proxy.cut_next_answer)
        proxy.behave()

    async def lose_answer(self, way: str, fault: Fault) -> None:
        proxy = self._stage.ways[way]
        begin = {
            "database": lambda: self._stage.database.lose_answer(proxy),
            "cache": lambda: self._stage.cache.lose_answer(proxy),
            "qpay": lambda: proxy.lose_answer_to(INVOICE),
        }[way]
        await self._until_met(fault, begin)
        proxy.behave()

    async def slow(self, way: str, fault: Fault) -> None:
        proxy = self._stage.ways[way]
        proxy.delay_seconds = DELAYS[way]
        await self._until_met(fault, lambda: None)
        await self.hold()
        proxy.behave()

    async def silence(self, way: str, fault: Fault) -> None:
        await self._until_met(fault, partial(self._stage.ways[way].go_silent, KEEPALIVE_SECONDS))
        await self.hold()

    # --- QPay

    async def away(self, fault: Fault) -> None:
        board = self._stage.simulator.faults
        board.set(Faults.model_validate({"reply": {name: {"status": 503} for name in OPERATIONS}}))
        before = board.fired.total()
        async with _soon():
            while board.fired.total() == before:  # noqa: ASYNC110 - the simulator only counts
                await asyncio.sleep(0.05)
            self._stage.board.strike(fault)
        await self.hold()
        board.set(Faults())

    async def show_later(self, fault: Fault) -> None:
        board = self._stage.simulator.faults
        board.set(Faults.model_validate({"callback": {"before_visible_seconds": 4}}))
        await self._until_met(fault, lambda: None)
        await self.hold()
        board.set(Faults())

    # ---

    @property
    def _file(self) -> File:
        place = self._stage.database
        assert isinstance(place, File)
        return place

    def _one_of(self, fault: Fault) -> Process:
        of_worker = fault in (Fault.WORKER_KILLED, Fault.WORKER_STOPPED)
        return self._stage.worker if of_worker else self._rng.choice(self._stage.serves)

    async def _within(self, fault: Fault, what: AbstractContextManager[None]) -> None:
        await asyncio.to_thread(what.__enter__)
        try:
            self._stage.board.strike(fault)
            await self.hold()
        finally:
            await asyncio.to_thread(what.__exit__, None, None, None)

    async def _until_met(self, fault: Fault, begin: Callable[[], None]) -> None:
        """Begin, and begin again where connections were made meanwhile, until somebody has met it."""
        before = self._stage.board.counts[fault]
        async with _soon():
            begin()
            while not await self._stage.board.until(fault, before, AGAIN_SECONDS):
                begin()


@contextlib.asynccontextmanager
async def _soon() -> AsyncIterator[None]:
    """What nobody meets in time is not counted, and its zero tells."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STRIKE_SECONDS):
            yield


Strike: TypeAlias = Callable[[Storm, Fault], Awaitable[None]]


def _on_the_way(name: str, strike: Callable[[Storm, str, Fault], Awaitable[None]]) -> Strike:
    return lambda storm, fault: strike(storm, name, fault)


STRIKES: Final[dict[Fault, Strike]] = {
    Fault.DATABASE_KILLED: Storm.kill_database,
    Fault.DATABASE_STOPPED: Storm.stop_database,
    Fault.DATABASE_REFUSES: _on_the_way("database", Storm.refuse),
    Fault.DATABASE_RESETS: _on_the_way("database", Storm.cut_answer),
    Fault.DATABASE_LOSES: _on_the_way("database", Storm.lose_answer),
    Fault.DATABASE_SLOW: _on_the_way("database", Storm.slow),
    Fault.DATABASE_SILENT: _on_the_way("database", Storm.silence),
    Fault.FILE_LOCKED: Storm.lock_file,
    Fault.FILE_AWAY: Storm.move_file,
    Fault.FAILOVER: Storm.kill_database,
    Fault.CACHE_KILLED: Storm.kill_cache,
    Fault.CACHE_STOPPED: Storm.stop_cache,
    Fault.CACHE_REFUSES: _on_the_way("cache", Storm.refuse),
    Fault.CACHE_RESETS: _on_the_way("cache", Storm.cut_answer),
    Fault.CACHE_LOSES: _on_the_way("cache", Storm.lose_answer),
    Fault.CACHE_SLOW: _on_the_way("cache", Storm.slow),
    Fault.CACHE_SILENT: _on_the_way("cache", Storm.silence),
    Fault.CACHE_FLUSHED: Storm.flush,
    Fault.CACHE_FAILOVER: Storm.kill_cache,
    Fault.QPAY_REFUSES: _on_the_way("qpay", Storm.refuse),
    Fault.QPAY_RESETS: _on_the_way("qpay", Storm.cut_answer),
    Fault.QPAY_LOSES: _on_the_way("qpay", Storm.lose_answer),
    Fault.QPAY_SLOW: _on_the_way("qpay", Storm.slow),
    Fault.QPAY_SILENT: _on_the_way("qpay", Storm.silence),
    Fault.QPAY_AWAY: Storm.away,
    Fault.QPAY_SHOWS_LATER: Storm.show_later,
    Fault.SERVE_KILLED: Storm.kill_process,
    Fault.SERVE_STOPPED: Storm.stop_process,
    Fault.WORKER_KILLED: Storm.kill_process,
    Fault.WORKER_STOPPED: Storm.stop_process,
}
