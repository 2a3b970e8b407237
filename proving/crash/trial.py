"""One trial: prepare, act, die; recover, perhaps die again, recover; judge."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from proving.crash.bank import Bank, Pipe
from proving.crash.databases import Kept, Place, keep_compiled
from proving.crash.handlers import HANDLERS, Handler
from proving.crash.judging import at_rest, judge
from proving.crash.shared import KILLS, Edge, Point, Shared
from proving.crash.shop import SOUND, Case, Parts, Shop, ended, shop, surely
from proving.crash.strikes import Striker
from proving.qpay import SmallQPay
from tulbur.cache import MemoryBackend
from tulbur.core.session import SECOND, Session
from tulbur.errors import StoreUnavailable, TulburError

START: Final = 1_790_000_000 * SECOND
APART_SECONDS: Final = 10 * 86_400
"""From the start of one trial to that of the next on the same database."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to strike: nowhere, at one point, or at two, the second being in the recovery when the first one kills.

    `again`: the caller, who was told nothing, comes once more.
    """

    handler: str
    points: tuple[Point, ...] = ()
    again: bool = False

    def __str__(self) -> str:
        points = ", ".join(map(str, self.points))
        return f"{self.handler}: {points or 'nowhere'}{', again' if self.again else ''}"


@dataclass(slots=True)
class Outcome:
    """What came of it; `struck` are the points where it was hit.

    Of a trial that strikes nowhere, `counts` are the edges that the use case reached, `spots` the lines that it
    executed, and `again` what the recovery reached.
    """

    plan: Plan
    broken: str = ""
    where: str = ""
    counts: dict[Edge, int] = field(default_factory=dict)
    spots: Mapping[str, int] = field(default_factory=dict)
    struck: list[Edge] = field(default_factory=list)
    again: dict[Edge, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where a trial begins: what the database, QPay, the clock and the process's memory hold."""

    database: bytes
    shared: tuple[int, int]
    bank: tuple[Any, ...]
    cache: MemoryBackend


class Rig:
    """Runs trials on one database, one after the other.

    What a trial begins with is prepared here, and what a killed process left is recovered here, by new use cases: only
    what is killed is forked. A database that is one file is put back to where trials of its handler begin;
    on a server each trial comes after the one before, with a session of its own.
    """

    def __init__(self, place: Place, parts: Parts = SOUND) -> None:
        self._place = place
        self._parts = parts
        self._shared = Shared()
        self._shared.move_to(START)
        self._empty = place.kept()
        self._stages: dict[str, _Stage] = {}
        self._before = (0, 0)
        self._loop = asyncio.Runner()
        self._running: Kept | None = None
        keep_compiled()

    def close(self) -> None:
        if self._running is not None:
            self._loop.run(self._running.stop())
        self._loop.close()

    def run(self, plan: Plan) -> Outcome:
        """One trial, judged."""
        handler = HANDLERS[plan.handler]
        outcome = Outcome(plan)
        with _spool(handler) as spool:
            bank, cache = self._prepared(plan.handler, handler, spool)
            if not bank.broken:
                self._run(plan, handler, bank, cache, outcome)
        outcome.broken = bank.broken
        return outcome

    def _prepared(self, name: str, handler: Handler, spool: str) -> tuple[Bank, MemoryBackend]:
        stage = self._stages.get(name)
        if stage is not None:
            self._place.put_back(stage.database)
            self._shared.put_back(stage.shared)
            bank = Bank(SmallQPay(self._shared.clock))
            bank.put_back(stage.bank)
            return bank, stage.cache
        if self._empty is not None:
            self._place.put_back(self._empty)
        self._shared.advance(APART_SECONDS)
        self._shared.begin()
        bank = Bank(SmallQPay(self._shared.clock, prefix=f"{self._shared.new_id()}-"))
        cache = MemoryBackend(self._shared.clock)
        bank.serve(lambda pipe: self._prepare(pipe, handler, spool, cache), self._loop)
        database = self._place.kept()
        if database is not None and not spool and not bank.broken:
            self._stages[name] = _Stage(database, self._shared.kept(), bank.kept(), cache)
        return bank, cache

    def _run(self, plan: Plan, handler: Handler, bank: Bank, cache: MemoryBackend, outcome: Outcome) -> None:
        first, *later = plan.points or (Point(Edge.END, 0),)
        kills = first.edge in KILLS
        at = (first,) if kills else plan.points
        counting = not plan.points
        killed = bank.run(lambda pipe: self._act(pipe, handler, bank.case, cache, at, counting=counting))
        outcome.counts, outcome.spots = self._shared.counts(), bank.spots
        outcome.where = self._shared.where
        outcome.struck += [first.edge] * self._shared.struck
        if killed != bool(kills and self._shared.struck):
            bank.broken = bank.broken or "the process was not killed where it should be"
        promised = self._shared.promised
        again = later[:1] if kills and not bank.broken else []
        if again and bank.run(lambda pipe: self._killed_again(pipe, handler, bank.case, plan, promised, again)):
            outcome.struck.append(again[0].edge)
            outcome.where += f", then {self._shared.where}"
        if not bank.broken:
            # An answer that was not lost in the first process, because the first loss ended it, is lost in this one.
            lost = later if not kills and len(outcome.struck) == 1 else []
            striker = Striker(self._shared, lost, counting=counting)
            bank.serve(
                lambda pipe: self._recover(pipe, handler, bank.case, plan, promised, striker, here=True), self._loop
            )
            outcome.again = self._shared.counts()
            outcome.struck += [lost[0].edge] * self._shared.struck if lost else []

    async def _prepare(self, pipe: Pipe, handler: Handler, spool: str, cache: MemoryBackend) -> None:
        before = self._before if self._empty is None else (0, 0)
        case = Case(user_id=self._shared.new_id(), before=before, spool=spool, setting=handler.setting)
        running, striker = await self._store(), Striker(self._shared)
        async with shop(pipe, striker, self._place, case, self._parts, cache=cache, running=running) as made:
            made.line.say("keep", await handler.prepare(made, case))

    async def _act(
        self, pipe: Pipe, handler: Handler, case: Case, cache: MemoryBackend, at: Sequence[Point], *, counting: bool
    ) -> None:
        striker = Striker(self._shared, at, counting=counting)
        striker.listen()
        async with shop(pipe, striker, self._place, case, self._parts, cache=cache) as made:
            with striker.armed(made.threads):
                if await ended(handler.act(made, case)):
                    self._shared.promise()
                await made.payments.stop()
                striker.reach(Edge.END, "the last line")
            made.line.say("count", striker.spots)

    async def _killed_again(
        self, pipe: Pipe, handler: Handler, case: Case, plan: Plan, promised: bool, at: Sequence[Point]
    ) -> None:
        striker = Striker(self._shared, at)
        striker.listen()
        await self._recover(pipe, handler, case, plan, promised, striker)

    async def _store(self) -> Kept | None:
        """The store of this process, where the database is a server's."""
        if self._running is None and self._empty is None:
            self._running = self._place.store(Striker(self._shared))
            await self._running.start()
        return self._running

    async def _recover(
        self,
        pipe: Pipe,
        handler: Handler,
        case: Case,
        plan: Plan,
        promised: bool,
        striker: Striker,
        *,
        here: bool = False,
    ) -> None:
        await self._place.lapse()
        running = await self._store() if here else None
        async with shop(pipe, striker, self._place, case, self._parts, running=running) as made:
            with striker.armed(made.threads):
                if promised:
                    self._shared.promise()
                sessions = await self._recovered(made, handler, case, plan)
            self._before = await judge(made, case, sessions)
            await handler.judge(made, case, sessions, plan.again)

    async def _recovered(self, made: Shop, handler: Handler, case: Case, plan: Plan) -> list[Session]:
        if made.shared.promised and handler.promise:
            promise = handler.promise
            await surely(lambda: promise(made, case))
        if plan.again:
            await surely(lambda: _unless_answered(handler.again(made, case)))
            await made.payments.stop()
        if handler.finish:
            finish = handler.finish
            await surely(lambda: _unless_answered(finish(made, case)))
        return await at_rest(made, case)


@contextmanager
def _spool(handler: Handler) -> Iterator[str]:
    """A folder for callbacks, where the handler has one."""
    if not handler.spools:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="crash-spool-") as folder:
        yield folder


async def _unless_answered(act: Coroutine[Any, Any, None] | Any) -> None:  # noqa: ANN401 - an awaitable
    """A refusal is an answer, too."""
    try:
        await act
    except StoreUnavailable:
        raise
    except TulburError:
        return
