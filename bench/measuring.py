"""The order of a benchmark: rounds of all rows, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import load
from bench.contender import FEW, Contender, EffectsMissing, Run
from bench.load import LoadFailed, Wanted
from bench.pgbench import Limit
from bench.processes import cpu_seconds, peak_bytes, running
from bench.results import Cell, Results
from bench.stage import Stage, standing
from proving.figures.wire import request
from testbed.servers import Testbed

AT_ONCE: Final = (1, 16, 64)

ROWS: Final = ("paid", "repeated", "status (pending)", "status (paid)", "open")

WARM_UP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`seconds` is the length of one run, of which each row has `rounds`.

    `compared`: with pgbench and the textbook's server, on PostgreSQL.
    """

    kinds: Sequence[str]
    rows: Sequence[str] = ROWS
    rounds: int = 3
    seconds: float = 4.0
    compared: bool = True
    few: int = FEW

    def cells(self, kind: str, server: str) -> list[tuple[str, int]]:
        """Rows and how many at once; only what pays is asked for at several."""
        several = {"tulbur": AT_ONCE if kind == "postgres" else AT_ONCE[1:], "textbook": AT_ONCE[1:]}
        return [(row, number) for row in self.rows for number in (several[server] if row == "paid" else (16,))]


async def run(plan: Plan, testbed: Testbed, tell: Callable[[str], None]) -> Results:
    """All of a plan. What fails is among the results, and the rest goes on.

    Raises:
        Missing: a server, or wrk, cannot be had here.
    """
    results = Results()
    with tempfile.TemporaryDirectory(prefix="tulbur-bench-") as folder:
        await _generator(plan, Path(folder), results)
        for kind in plan.kinds:
            place = Path(folder) / kind
            place.mkdir()
            async with standing(kind, testbed, place, compared=plan.compared, few=plan.few) as stage:
                await _Rounds(plan, stage, results, tell).run()
    return results


async def _generator(plan: Plan, folder: Path, results: Results) -> None:
    """Measure wrk against a server that only answers."""
    async with running("bench.empty", folder, {}, "/") as empty:
        pid = empty.process.pid
        for at_once in AT_ONCE:
            used = cpu_seconds(pid)
            done = await load.run(
                empty.port,
                [request("GET", f"/{number}") for number in range(100)],
                Wanted(200, "SUCCESS"),
                folder,
                at_once=at_once,
                seconds=plan.seconds,
                once=False,
            )
            results.empty[at_once].append(Run(done, {"empty": cpu_seconds(pid) - used, "wrk": done.cpu_seconds}))


class _Rounds:
    """The rounds on one kind of database."""

    def __init__(self, plan: Plan, stage: Stage, results: Results, tell: Callable[[str], None]) -> None:
        self._plan, self._stage, self._results, self._tell = plan, stage, results, tell

    async def run(self) -> None:
        contenders = {"tulbur": self._stage.tulbur}
        if self._stage.textbook is not None:
            contenders["textbook"] = self._stage.textbook
        contenders = {server: one for server, one in contenders.items() if await self._prepared(server, one)}
        for number in range(1, self._plan.rounds + 1):
            self._tell(f"{self._stage.kind}: round {number} of {self._plan.rounds}")
            if self._stage.limit is not None:
                await self._limits(self._stage.limit)
            for server, contender in contenders.items():
                await self._rows(server, contender, self._plan.seconds, kept=True)
        for contender in contenders.values():
            for name in contender.pids.keys() & {"serve", "textbook", "qpay"}:
                self._results.memory[self._stage.kind, name] = peak_bytes(contender.pids[name])

    async def _prepared(self, server: str, contender: Contender) -> bool:
        """Whether it is ready to be measured, and warm."""
        try:
            await contender.prepare()
        except (LoadFailed, EffectsMissing) as failure:
            self._results.failures.append(f"{self._stage.kind}, {server}, before it began: {failure}")
            return False
        await self._rows(server, contender, WARM_UP_SECONDS, kept=False)
        return True

    async def _rows(self, server: str, contender: Contender, seconds: float, *, kept: bool) -> None:
        for row, at_once in self._plan.cells(self._stage.kind, server):
            await self._one(server, contender, row, at_once, seconds, kept=kept)

    async def _limits(self, limit: Limit) -> None:
        for at_once in AT_ONCE:
            self._results.limit[at_once].append(await limit.rate(at_once, self._plan.seconds))

    async def _one(
        self, server: str, contender: Contender, row: str, at_once: int, seconds: float, *, kept: bool
    ) -> None:
        cell = Cell(self._stage.kind, server, row, at_once)
        try:
            done = await contender.run(row, at_once, seconds)
        except (LoadFailed, EffectsMissing) as failure:
            self._results.failures.append(f"{cell.kind}, {server}, {row} at {at_once}: {failure}")
            return
        if kept:
            self._results.runs[cell].append(done)
