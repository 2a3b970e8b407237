"""The shares of a table on all cores, each in a process of its own with a database of its own."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from proving.crash.results import Results
from proving.crash.shop import SOUND, Parts
from proving.crash.table import FAULTS, Counted, Row, Share, Trial, made
from proving.many import commit, ctrl_c_is_ours

TELL_SECONDS: Final = 10.0

Told = Callable[[str], None]


@dataclass
class Table:
    """What came of it; `ran_before` is what an earlier run had done, `ran_now` and `seconds` leave it out."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    seconds: float = 0.0
    ran_before: int = 0
    ran_now: int = 0
    cores: int = 0
    commit: str = "unknown"

    @property
    def ran(self) -> int:
        return sum(row.struck.total() for row in self.rows.values())

    @property
    def broken(self) -> list[str]:
        return [f"{row.handler} × {row.database}: {told}" for row in self.rows.values() for told in row.broken]

    @property
    def silent(self) -> list[str]:
        """Faults that could have struck in one of the rows, and never did."""
        struck: Counter[str] = sum((row.struck for row in self.rows.values()), Counter())
        possible = {fault for row in self.rows.values() for fault in row.points} or set(FAULTS)
        return [fault for fault in FAULTS if fault in possible and not struck[fault]]

    def note(self, told: Trial | Counted) -> None:
        row = self.rows.setdefault((told.handler, told.database), Row(told.handler, told.database))
        if isinstance(told, Counted):
            row.count(told)
        else:
            row.note(told)


def run_shares(
    shares: Sequence[Share], cores: int, tell: Told, parts: Parts = SOUND, results: Results | None = None
) -> Table:
    """Run them, `cores` at once; Ctrl-C ends it, and what ran until then is told.

    With `results` each trial is kept there, and those that are there already are not run again.
    """
    table = Table(cores=cores, commit=commit())
    done: dict[str, dict[str, str]] = {}
    for told in results.read() if results else ():
        table.note(told)
        if isinstance(told, Trial):
            done.setdefault(told.database, {})[told.plan] = told.kind if told.hit else ""
    table.ran_before = table.ran
    began = time.monotonic()
    _spread(table, [replace(share, done=done.get(share.database, {})) for share in shares], tell, parts, results)
    table.seconds = time.monotonic() - began
    return table


def _spread(table: Table, shares: Sequence[Share], tell: Told, parts: Parts, results: Results | None) -> None:
    context = multiprocessing.get_context("spawn")
    waiting, running = list(shares), dict[Connection, SpawnProcess]()
    told_at = time.monotonic()
    while waiting or running:
        try:
            while waiting and len(running) < table.cores:
                ours, theirs = context.Pipe()
                process = context.Process(target=_share, args=(theirs, waiting[0], parts))
                with ctrl_c_is_ours():
                    process.start()
                running[ours] = process
                waiting.pop(0)
                theirs.close()
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                try:
                    told: Trial | Counted = pipe.recv()
                except (EOFError, ConnectionResetError):
                    process = running.pop(pipe)
                    process.join()
                    assert process.exitcode == 0, "a share of the table ended early"
                    continue
                _note(table, told, tell, results)
            if time.monotonic() - told_at >= TELL_SECONDS:
                told_at = time.monotonic()
                tell(f"{table.ran_now:,} trials, {len(table.broken)} broke a law")
        except KeyboardInterrupt:
            waiting.clear()
            for pipe in running:
                with contextlib.suppress(OSError):  # it has come to its end by itself
                    pipe.send("stop")


def _note(table: Table, told: Trial | Counted, tell: Told, results: Results | None) -> None:
    table.note(told)
    if results is not None and (isinstance(told, Counted) or told.kind):
        results.keep(told)
    if isinstance(told, Trial):
        table.ran_now += 1
        if told.broken:
            tell(f"{told.database}: {told.plan} ({told.where})\n{told.broken}")


def _share(pipe: Connection, share: Share, parts: Parts) -> None:
    counted: set[str] = set()

    def came(row: Row, trial: Trial) -> bool:
        if row.handler not in counted:
            counted.add(row.handler)
            pipe.send(row.counted)
            gc.collect()
            gc.freeze()  # what is forked again and again is not to be copied because it was looked at
        pipe.send(trial)
        return not (pipe.poll() and pipe.recv())

    made(share, came, parts)
    pipe.close()
