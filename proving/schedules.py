"""One seed, one run, one verdict: a story under faults, then peace, in which every paid session must reach its end."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

from proving import ending, old_shop, people
from proving.acts import checkout, story
from proving.faults import Fault, Faults, nobody, swarm
from proving.loop import Loop
from proving.oracle import Broken, told_by
from proving.payers import Checkout
from proving.uses import Deed, Use, chosen
from proving.world import SOUND, Parts, World

MOST_ROUNDS: Final = 200
"""Times the rest is waited for; each is as long as the next look is away."""

PARKED: Final = "an event is parked"
"""An error for whoever runs tulbur, and foreseen: a shop was away for longer than anybody tries."""

A_DAY_SECONDS: Final = 40 * 3600
"""Within so long a daily sweep has come: a day, and the longest time between two rounds of the loop."""


@dataclass(frozen=True)
class Recipe:
    """What is run: a seed, and what of its faults, uses and checkouts is left out to make the story shorter."""

    seed: int
    without: frozenset[Fault] = frozenset()
    unused: frozenset[Use] = frozenset()
    most_checkouts: int = 5


@dataclass
class Verdict:
    """What came of a run; `broken` is "" when every law held."""

    recipe: Recipe
    broken: str
    counts: Counter[Fault]
    outcomes: Counter[str]
    deeds: Counter[Deed]
    steps: int
    commits: int
    trace: list[str] = field(default_factory=list)


class Defects(logging.Handler):
    """Hears what the worker logs of errors nobody foresaw, so that they break the run instead of being survived."""

    def __init__(self, heard: Callable[[Broken], None]) -> None:
        super().__init__(logging.ERROR)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == PARKED:
            return
        error = record.exc_info[1] if record.exc_info else None
        self._heard(Broken(f"an error nobody foresaw: {record.getMessage()}: {error!r}"))


@contextmanager
def listening(heard: Callable[[Broken], None]) -> Iterator[None]:
    """Hear what the worker could not help, and nothing else of what it says: a run prints its own lines only."""
    log, defects = logging.getLogger("tulbur"), Defects(heard)
    before = log.propagate, log.level
    log.propagate = False
    log.setLevel(logging.ERROR)
    log.addHandler(defects)
    try:
        yield
    finally:
        log.removeHandler(defects)
        log.propagate = before[0]
        log.setLevel(before[1])


def run(recipe: Recipe, *, trace: bool = False, parts: Parts = SOUND) -> Verdict:
    """Run one seed; the same recipe is the same run, with or without a trace."""
    seed = recipe.seed
    loop = Loop(Random(f"{seed} order"))  # type: ignore[abstract]  # what it has not, nobody may use
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(f"{loop.time():>12.3f}  {line}")

    hear = tell if trace else nobody
    odds = swarm(Random(f"{seed} swarm"), recipe.without)
    uses = chosen(Random(f"{seed} uses"), recipe.unused)
    faults = Faults(Random(f"{seed} faults"), odds, hear)
    world = World(loop, faults, Random(f"{seed} world"), hear, parts, uses)
    outcomes: Counter[str] = Counter()
    broken = ""
    with listening(world.broken):
        try:
            loop.run_until_complete(_run(world, recipe, outcomes))
        except AssertionError as error:
            broken = told_by(error)
        unheard = loop.unheard()
        if unheard and not broken:
            broken = f"an error nobody heard: {unheard[0]!r}"
        loop.close()
    world.close()
    deeds = world.oracle.deeds
    return Verdict(recipe, broken, faults.counts, outcomes, deeds, loop.steps, world.oracle.commits, lines)


async def _run(w: World, recipe: Recipe, outcomes: Counter[str]) -> None:
    w.tell(f"in use: {', '.join(sorted(w.uses)) or 'nothing besides'}")
    count = w.rng.choice((1, 1, 2, 2, 3, 5))
    checkouts = [checkout(w, number) for number in range(count)][: recipe.most_checkouts]
    olds = old_shop.old_checkouts(w)[: recipe.most_checkouts]
    await asyncio.gather(*(story(w, c) for c in checkouts), *(old_shop.story(w, c) for c in olds))
    w.tell("--- from here on nothing fails")
    w.faults.calm = True
    await _rest(w)
    w.oracle.at_rest()
    opened = [c for c in checkouts if c.session_id is not None]
    _judged(w, opened, ending.judge_alone)
    _judged(w, olds, old_shop.judge_promised)
    if Use.SWEEPS in w.uses:
        w.tell("--- a day passes")
        await asyncio.sleep(A_DAY_SECONDS)
        await _rest(w)
        _judged(w, opened, ending.judge_swept)
    w.tell("--- what was lost comes")
    await ending.help_out(w, opened)
    await _rest(w)
    w.oracle.at_rest()
    _judged(w, opened, ending.judge_ended)
    if olds:
        w.tell("--- the old shop is stopped")
        await old_shop.move_in(w, olds, lambda: _rest(w))
        w.oracle.at_rest()
        _judged(w, olds, old_shop.judge_moved)
    w.tell("--- people work through their list")
    await _worked(w)
    for c in opened:
        session = w.oracle.stored(str(c.session_id))
        outcomes[session.status.value] += 1
        outcomes.update(name.value for name in session.exceptions)


def _judged(w: World, checkouts: Sequence[Checkout], judge: Callable[[World, Checkout], None]) -> None:
    for c in checkouts:
        with w.oracle.judging(str(c.session_id)):
            judge(w, c)


async def _worked(w: World) -> None:
    """A sweep, the list of work, parked events, and the books of the whole time."""
    await people.sweeps(w)
    await _rest(w)
    if not await people.work_through(w, lambda: _rest(w)):
        raise Broken("law 2: the list of work never becomes empty")
    await people.replays(w, parked_only=True)
    await _rest(w)
    w.oracle.at_rest()
    await ending.judge_books(w)


async def _rest(w: World) -> None:
    """Until nothing is due: no look, no event, nothing in the spool."""
    for _ in range(MOST_ROUNDS):
        away = w.idle_seconds()
        await asyncio.sleep((away or 0) + ending.MARGIN_SECONDS)
        if away is None and w.idle_seconds() is None:
            return
    raise Broken("law 2: it never comes to rest")
