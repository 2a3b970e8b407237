"""One run: a storm on one kind of database, the calm after it, and the verdict."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from proving.chaos import books, judging
from proving.chaos.books import Books
from proving.chaos.faults import Board, Fault
from proving.chaos.payers import SHOPS, Payers
from proving.chaos.places import alive
from proving.chaos.stage import PROGRAM, Stage, staged
from proving.chaos.storm import Storm
from proving.chaos.witness import Taken, Witness
from testbed.binaries import Missing
from testbed.servers import Testbed
from tulbur.simulator.runtime import Simulator

REST_SECONDS: Final = 600
"""How long everything may take to come to rest: looks that QPay did not answer wait for minutes."""

MOST_SWEEPS: Final = 3
"""A sweep on a loaded machine may say that it did not deal with all; then it is to be run again."""

COME_SECONDS: Final = 120
"""How long is waited for payers who do what no payer has done yet."""

POLL_SECONDS: Final = 1.0

_ULAANBAATAR: Final = timezone(timedelta(hours=8))


@dataclass
class Run:
    """What came of it. `silent` are listed faults that never struck: what was not tried is not shown."""

    kind: str
    seed: int
    faults: Sequence[Fault]
    counts: Counter[Fault] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    storm_seconds: float = 0.0
    calm_seconds: float = 0.0
    paid: int = 0
    acknowledged: int = 0
    callbacks: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    told: list[str] = field(default_factory=list)
    kept: str = ""
    """Where the logs are, when something was broken."""

    @property
    def silent(self) -> list[Fault]:
        return [fault for fault in self.faults if not self.counts[fault]]


async def run(
    kind: str,
    testbed: Testbed,
    seconds: float,
    seed: int,
    faults: Sequence[Fault],
    *,
    program: Sequence[str] = PROGRAM,
    url: str = "",
) -> Run:
    """Strike for so many seconds, let everything come to rest, and judge.

    `program` is the tulbur to run, `url` an empty database to use instead of one of ours.

    Raises:
        Missing: a server cannot be had here, or the database is not empty.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{kind}-"))
    done = Run(kind, seed, faults)
    try:
        async with staged(kind, testbed, folder, Board(), program, url) as stage:
            await _run(done, stage, seconds)
    except Missing:
        shutil.rmtree(folder)
        raise
    except BaseException:
        print(f"what was left of the run on {kind} is in {folder}")
        raise
    if done.broken:
        done.kept = str(folder)
    else:
        shutil.rmtree(folder)
    return done


async def _run(done: Run, stage: Stage, seconds: float) -> None:
    chance = random.Random(f"{done.seed} {done.kind}")
    payers, storm = Payers(stage, chance), Storm(stage, chance, done.faults)
    began, day = time.monotonic(), datetime.now(_ULAANBAATAR)
    async with asyncio.TaskGroup() as group:
        group.create_task(payers.run())
        await storm.run(seconds)
        await _until_each_came(done.faults, stage.board)
        payers.stop()
    done.storm_seconds, began = time.monotonic() - began, time.monotonic()
    ended = [process for process in stage.processes if not process.running]
    done.broken += [f"{process.log.stem} ended by itself" for process in ended]
    await _calm(done, stage, payers.witness, day)
    done.calm_seconds = time.monotonic() - began
    done.counts, done.told = stage.board.counts, storm.told
    _count(done, payers.witness, await books.read(stage.url))


async def _until_each_came(faults: Sequence[Fault], board: Board) -> None:
    """What payers do comes with their number: as many come as it takes, and no more than a while."""
    for fault in faults:
        await board.until(fault, 0, COME_SECONDS)


async def _calm(done: Run, stage: Stage, witness: Witness, began: datetime) -> None:
    """Nobody helps until everything has come to rest; then the operator sweeps, as he would after such a day."""
    done.broken += await _at_rest(stage)
    found = await books.read(stage.url)
    done.broken += judging.promises(found, witness)
    done.broken += await _swept(stage)
    done.broken += await _at_rest(stage)
    done.broken += await _proven(stage, began)
    for process in stage.processes:
        await process.stop()
    done.broken += witness.surprises
    done.broken += judging.verdict(await books.read(stage.url), witness, _taken(stage.simulator), SHOPS)
    done.broken += _left(stage)


async def _at_rest(stage: Stage) -> list[str]:
    end = time.monotonic() + REST_SECONDS
    while True:
        waiting = [*judging.waits(await books.read(stage.url)), *(f"the spool holds {p.name}" for p in stage.spool)]
        if not waiting or time.monotonic() > end:
            return [f"after {REST_SECONDS} s: {one}" for one in waiting]
        await asyncio.sleep(POLL_SECONDS)


async def _swept(stage: Stage) -> list[str]:
    """What nobody called back for, and paid after the deadline, is found only so; again where it did not see all."""
    code, said = 1, ""
    for _ in range(MOST_SWEEPS):
        now = datetime.now(UTC)
        words = ["--from", (now - timedelta(days=1)).isoformat(), "--to", (now + timedelta(minutes=1)).isoformat()]
        code, said = await stage.command("sweep", *words, "--json")
        if not code:
            return []
    return [f"tulbur sweep ended with {code}: {said}"]


async def _proven(stage: Stage, began: datetime) -> list[str]:
    """The certificate of today, which lacks only the day's end; and of yesterday, if the run began then."""
    broken = []
    for day in sorted({began.date(), datetime.now(_ULAANBAATAR).date()}):
        _, said = await stage.command("prove", "--day", day.isoformat(), "--json")
        certificate = json.loads(said)
        balanced = all(sums["balances"] for sums in certificate["currencies"].values())
        if certificate["differences"] or not balanced or certificate["trouble"] not in ("", "the day is not over"):
            broken.append(f"tulbur prove --day {day}: {said}")
    return broken


def _taken(simulator: Simulator) -> list[Taken]:
    return [
        Taken(one.id, one.invoice.form.sender_invoice_no, int(one.amount * 100), one.currency, one.status)
        for one in simulator.ledger.payments.values()
    ]


def _left(stage: Stage) -> Iterator[str]:
    """What a run must not leave behind."""
    yield from (f"the spool holds {path.name}" for path in stage.spool)
    for process in stage.processes:
        yield from (f"{process.log.stem}, process {pid}, is still there" for pid in process.pids if alive(pid))
        for complaint in judging.complaints(process.log.read_text(errors="replace")):
            yield f"in the log of {process.log.stem}: {complaint}"


def _count(done: Run, witness: Witness, found: Books) -> None:
    done.paid, done.acknowledged = witness.paid, len(witness.acknowledged)
    done.callbacks, done.orders = witness.answers, len(found.orders)
    for session in found.sessions.values():
        done.outcomes.update([session.status.value, *(name.value for name in session.exceptions)])
