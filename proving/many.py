"""Many seeds on all cores, within a budget of time."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from proving.faults import Fault, Told, nobody
from proving.schedules import Recipe, run
from proving.uses import Deed

ENOUGH: Final = 1_000
"""Runs in which every deed must have been done: the rarest comes up in one of a hundred."""

CHUNK: Final = 25
"""Seeds handed to a core at once."""


@dataclass
class Many:
    """What came of many runs. `silent` are faults and deeds that never were: what was not tried is not proven."""

    start: int
    asked: int
    budget: float
    cores: int
    commit: str = "unknown"
    ran: int = 0
    seconds: float = 0.0
    counts: Counter[Fault] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    deeds: Counter[Deed] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)
    commits: int = 0
    steps: int = 0

    @property
    def silent(self) -> list[Fault | Deed]:
        faults = [fault for fault in Fault if not self.counts[fault]]
        return [*faults, *(deed for deed in Deed if not self.deeds[deed] and self.ran >= ENOUGH)]

    @property
    def bound(self) -> float:
        """Under this is the failure rate, at 95 %, when none of so many runs failed."""
        return 3 / max(self.ran, 1)

    def add(self, part: Many) -> None:
        self.ran += part.ran
        self.counts.update(part.counts)
        self.outcomes.update(part.outcomes)
        self.deeds.update(part.deeds)
        self.failed.update(part.failed)
        self.commits += part.commits
        self.steps += part.steps


def run_many(start: int, seeds: int, budget: float = 0.0, cores: int = 0, tell: Told = nobody) -> Many:
    """Run `seeds` from `start`; after `budget` seconds, if that is not 0, or after Ctrl-C no more are begun.

    `tell` hears of each failing run at once.
    """
    cores = cores or os.cpu_count() or 1
    done = Many(start, seeds, budget, cores, commit())
    began = time.monotonic()

    def chunks() -> Iterator[range]:
        for first in range(start, start + seeds, CHUNK):
            if budget and time.monotonic() - began >= budget:
                return
            yield range(first, min(first + CHUNK, start + seeds))

    def came(part: Many) -> None:
        done.add(part)
        for seed, broken in part.failed.items():
            tell(f"seed {seed}: {broken}")

    with contextlib.suppress(KeyboardInterrupt):
        if cores == 1:
            for chunk in chunks():
                came(run_chunk(chunk))
        else:
            _spread(chunks(), cores, came)
    done.seconds = time.monotonic() - began
    return done


def commit() -> str:
    """Which version is run, told before it may change."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _spread(chunks: Iterator[range], cores: int, came: Callable[[Many], None]) -> None:
    """Never more chunks under way than there are cores, so that the budget is kept."""
    with ctrl_c_is_ours():
        pool = multiprocessing.get_context("spawn").Pool(cores)
    with pool:
        under_way = [pool.apply_async(run_chunk, (chunk,)) for _, chunk in zip(range(cores), chunks, strict=False)]
        while under_way:
            came(under_way.pop(0).get())
            following = next(chunks, None)
            if following is not None:
                under_way.append(pool.apply_async(run_chunk, (following,)))


@contextlib.contextmanager
def ctrl_c_is_ours() -> Iterator[None]:
    """Processes that are begun within never hear it, not even while they import: who asked for them tells what ran."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_chunk(seeds: range) -> Many:
    """Run some seeds here. Collected between runs, never within one: what ends when depends on no chance but ours."""
    part = Many(seeds.start, len(seeds), 0.0, 1)
    gc.disable()
    gc.freeze()  # what is there now outlives the runs, and is not looked through after them
    try:
        for seed in seeds:
            verdict = run(Recipe(seed))
            part.ran += 1
            part.counts.update(verdict.counts)
            part.outcomes.update(verdict.outcomes)
            part.deeds.update(verdict.deeds)
            part.commits += verdict.commits
            part.steps += verdict.steps
            if verdict.broken:
                part.failed[seed] = verdict.broken
        gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()
    return part
