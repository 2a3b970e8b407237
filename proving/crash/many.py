"""The shares of a table on all cores, each in a process of its own with a database of its own."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from proving.crash.shop import SOUND, Parts
from proving.crash.table import FAULTS, Row, Share, made
from proving.crash.trial import Outcome
from proving.many import commit

TELL_SECONDS: Final = 10.0

Told = Callable[[str], None]


@dataclass
class Table:
    """What came of it."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    seconds: float = 0.0
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

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.rows.setdefault((row.handler, row.database), Row(row.handler, row.database)).add(row)


def run_shares(shares: Sequence[Share], cores: int, tell: Told, parts: Parts = SOUND) -> Table:
    """Run them, `cores` at once; Ctrl-C ends it, and what ran until then is told."""
    table = Table(cores=cores, commit=commit())
    began = time.monotonic()
    if cores == 1:
        for share in shares:
            table.add(_alone(share, tell, parts))
    else:
        _spread(table, shares, cores, tell, parts)
    table.seconds = time.monotonic() - began
    return table


def _alone(share: Share, tell: Told, parts: Parts) -> list[Row]:
    gc.collect()
    gc.freeze()  # what is forked again and again is not to be copied because it was looked at
    ran, told_at = 0, time.monotonic()

    def came(row: Row, outcome: Outcome) -> None:
        nonlocal ran, told_at
        ran += 1
        if outcome.broken:
            tell(f"{row.database}: {outcome.plan} ({outcome.where})\n{outcome.broken}")
        if time.monotonic() - told_at >= TELL_SECONDS:
            told_at = time.monotonic()
            tell(f"{share.database} {share.number + 1}/{share.of}: {ran:,} trials")

    return made(share, came, parts)


def _spread(table: Table, shares: Sequence[Share], cores: int, tell: Told, parts: Parts) -> None:
    context = multiprocessing.get_context("spawn")
    waiting, running = list(shares), dict[Connection, SpawnProcess]()
    while waiting or running:
        while waiting and len(running) < cores:
            ours, theirs = context.Pipe()
            process = context.Process(target=_share, args=(theirs, waiting.pop(0), parts))
            process.start()
            theirs.close()
            running[ours] = process
        for pipe in wait(list(running)):
            assert isinstance(pipe, Connection)
            try:
                came = pipe.recv()
            except EOFError:
                process = running.pop(pipe)
                process.join()
                assert process.exitcode == 0, "a share of the table ended early"
                continue
            if isinstance(came, str):
                tell(came)
            else:
                table.add(came)


def _share(pipe: Connection, share: Share, parts: Parts) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.send(_alone(share, pipe.send, parts))
    pipe.close()
