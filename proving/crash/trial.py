"""One trial: prepare, act, die; recover, perhaps die again, recover; judge."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, Final

from proving.crash.bank import Bank
from proving.crash.databases import Place
from proving.crash.handlers import HANDLERS, Handler
from proving.crash.judging import at_rest, judge
from proving.crash.shared import KILLS, Edge, Shared
from proving.crash.shop import SOUND, Case, Parts, Shop, ended, shop, surely
from proving.crash.strikes import Striker
from proving.qpay import SmallQPay
from tulbur.core.session import SECOND
from tulbur.errors import StoreUnavailable, TulburError

START: Final = 1_790_000_000 * SECOND
APART_SECONDS: Final = 10 * 86_400
"""From the start of one trial to that of the next on the same database."""

Point = tuple[Edge, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to strike: nowhere, at one point, or at two, the second being in the recovery when the first one kills.

    `again`: the caller, who was told nothing, comes once more.
    """

    handler: str
    points: tuple[Point, ...] = ()
    again: bool = False

    def __str__(self) -> str:
        points = ", ".join(f"{edge.name} {number}" for edge, number in self.points)
        return f"{self.handler}: {points or 'nowhere'}{', again' if self.again else ''}"


@dataclass(slots=True)
class Outcome:
    """What came of it; `counts` are the edges that the use case reached, `struck` those where it was hit."""

    plan: Plan
    broken: str = ""
    where: str = ""
    counts: dict[Edge, int] = field(default_factory=dict)
    struck: list[Edge] = field(default_factory=list)
    again: dict[Edge, int] = field(default_factory=dict)


class Rig:
    """Runs trials on one database, one after the other."""

    def __init__(self, place: Place, parts: Parts = SOUND) -> None:
        self._place = place
        self._parts = parts
        self._shared = Shared()
        self._shared.move_to(START)

    def run(self, plan: Plan) -> Outcome:
        """One trial, judged."""
        shared, handler = self._shared, HANDLERS[plan.handler]
        shared.advance(APART_SECONDS)
        shared.begin()
        bank = Bank(SmallQPay(shared.clock, prefix=f"{shared.new_id()}-"))
        spool = tempfile.mkdtemp(prefix="crash-spool-") if handler.spools else ""
        outcome = Outcome(plan)
        try:
            self._run(plan, handler, bank, spool, outcome)
        finally:
            if spool:
                shutil.rmtree(spool)
        outcome.broken = bank.broken
        return outcome

    def _run(self, plan: Plan, handler: Handler, bank: Bank, spool: str, outcome: Outcome) -> None:
        first, *later = plan.points or ((Edge.END, 0),)
        kills = first[0] in KILLS
        at = frozenset({first} if kills else plan.points)
        lines = not plan.points or first[0] is Edge.LINE
        killed = bank.run(lambda pipe: self._act(pipe, handler, at, spool, lines=lines))
        outcome.counts = self._shared.counts()
        outcome.where = self._shared.where
        outcome.struck += [first[0]] * self._shared.struck
        if killed != bool(kills and self._shared.struck):
            bank.broken = bank.broken or "the process was not killed where it should be"
        promised = self._shared.promised
        again = later[0] if kills and later and not bank.broken else None
        if again and bank.run(lambda pipe: self._recover(pipe, handler, bank.case, plan, promised, again)):
            outcome.struck.append(again[0])
            outcome.where += f", then {self._shared.where}"
        if not bank.broken:
            # An answer that was not lost in the first process, because the first loss ended it, is lost in this one.
            lost = later[0] if later and not kills and len(outcome.struck) == 1 else None
            bank.run(lambda pipe: self._recover(pipe, handler, bank.case, plan, promised, lost))
            outcome.again = self._shared.counts()
            outcome.struck += [lost[0]] * self._shared.struck if lost else []

    async def _act(self, pipe: Connection, handler: Handler, at: frozenset[Point], spool: str, *, lines: bool) -> None:
        shared = self._shared
        striker = Striker(shared, at, lines=lines)
        stats_case = Case(user_id=shared.new_id(), before=(0, 0), spool=spool)
        async with shop(pipe, shared, self._place, striker, stats_case, self._parts) as made:
            stats = await made.store.stats(shared.clock())
            case = replace(stats_case, before=(stats.orders, await _last_number(made)))
            case = await handler.prepare(made, case)
            made.line.say("keep", case)
            with striker.armed(made.threads):
                if await ended(handler.act(made, case)):
                    shared.promise()
                await made.payments.stop()
                striker.reach(Edge.END, "the last line")

    async def _recover(
        self, pipe: Connection, handler: Handler, case: Case, plan: Plan, promised: bool, second: Point | None
    ) -> None:
        shared = self._shared
        lines = not plan.points or (second is not None and second[0] is Edge.LINE)
        striker = Striker(shared, frozenset({second} if second else ()), lines=lines)
        await self._place.lapse()
        async with shop(pipe, shared, self._place, striker, case, self._parts) as made:
            with striker.armed(made.threads):
                if promised:
                    shared.promise()
                sessions = await self._recovered(made, handler, case, plan)
            await judge(made, case, sessions)
            await handler.judge(made, case, sessions, plan.again)

    async def _recovered(self, made: Shop, handler: Handler, case: Case, plan: Plan) -> Any:  # noqa: ANN401
        if made.shared.promised and handler.promise:
            promise = handler.promise
            await surely(lambda: promise(made, case))
        if plan.again:
            await surely(lambda: _unless_answered(handler.again(made, case)))
            await made.payments.stop()
        if handler.finish:
            finish = handler.finish
            await surely(lambda: finish(made, case))
        return await at_rest(made, case)


async def _unless_answered(act: Coroutine[Any, Any, None] | Any) -> None:  # noqa: ANN401 - an awaitable
    """A refusal is an answer, too."""
    try:
        await act
    except StoreUnavailable:
        raise
    except TulburError:
        return


async def _last_number(made: Shop) -> int:
    last = 0
    while page := await made.store.events(last, 200):
        last = page[-1].no
    return last
