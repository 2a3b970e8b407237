"""The table: every point of every handler on every database, or a sample of them within a budget of time."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeAlias

from proving.crash.bank import Bank
from proving.crash.databases import Place, sqlite_place
from proving.crash.handlers import HANDLERS
from proving.crash.shared import KILLS, LOSSES, Edge, Point, Shared
from proving.crash.shop import SOUND, Parts
from proving.crash.strikes import Striker
from proving.crash.trial import Outcome, Plan, Rig
from proving.qpay import SmallQPay

FRESH_AFTER: Final = 500
"""Trials on one database until it is emptied."""

DOUBLES_OF: Final = 10
"""One of so many kills is followed by a second kill in the recovery."""

MORE_SENDS: Final = 1
"""A lost answer makes a store send once more, so that more answers can be lost than there were without."""

PAIR: Final = "two lost answers"
SECOND: Final = "killed again during the recovery"

FAULTS: Final = (*Edge, PAIR, SECOND)
"""All that must have struck before anything is shown."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial as it is told and kept: what was planned, whether it struck there, and where that was."""

    database: str
    handler: str
    plan: str
    kind: str
    hit: bool
    where: str = ""
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """What there is to strike in one row."""

    database: str
    handler: str
    points: Mapping[str, int]
    lines: Sequence[str]


@dataclass(slots=True)
class Row:
    """One handler on one database: the `points` there are of each kind, and the distinct lines it executes.

    Each point counts twice: the caller comes again, or does not.
    """

    handler: str
    database: str
    points: Counter[str] = field(default_factory=Counter)
    lines: frozenset[str] = frozenset()
    struck: Counter[str] = field(default_factory=Counter)
    lines_struck: set[str] = field(default_factory=set)
    missed: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def counted(self) -> Counted:
        return Counted(self.database, self.handler, dict(self.points), sorted(self.lines))

    def count(self, counted: Counted) -> None:
        """What one process counted; where another one had it otherwise, the larger count is told."""
        self.points = max(self.points, Counter(counted.points), key=Counter.total)
        self.lines |= frozenset(counted.lines)

    def note(self, trial: Trial) -> None:
        if trial.broken:
            self.broken.append(f"{trial.plan} ({trial.where or 'nothing struck'})\n{trial.broken}")
        if not trial.kind:
            return
        if trial.hit:
            self.struck[trial.kind] += 1
        elif not trial.broken:
            self.missed += 1
        if trial.hit and trial.kind == Edge.LINE:
            self.lines_struck.add(trial.where)


def kind_of(plan: Plan) -> str:
    """What strikes; "" when nothing does."""
    if not plan.points:
        return ""
    first = plan.points[0].edge
    if len(plan.points) == 2:
        return PAIR if first in LOSSES else SECOND
    return first


def _told(database: str, outcome: Outcome) -> Trial:
    plan = outcome.plan
    kind = kind_of(plan)
    hit = len(outcome.struck) == len(plan.points)
    return Trial(database, plan.handler, str(plan), kind, hit, outcome.where, outcome.broken)


class Group:
    """The trials of one row, counted first, then in an order by chance, every kind early."""

    def __init__(self, row: Row, chance: Random, first: int, share: Share) -> None:
        self.row = row
        self._share = share
        self._chance = chance
        self._first = first

    def counting(self) -> Plan:
        """What has to be run before it is known how many points there are."""
        return Plan(self.row.handler)

    def plans(self, counted: Outcome) -> list[Plan]:
        counts, recovery = counted.counts, counted.again.get(Edge.LINE, 0)
        edges = [Point(edge, n) for edge in KILLS if edge is not Edge.LINE for n in range(1, counts[edge] + 1)]
        losses = [Point(edge, n) for edge in LOSSES for n in range(1, counts[edge] + 1)]
        lines = self._lines(counted)
        points: list[tuple[Point, ...]] = [(point,) for point in (*edges, *losses)]
        points += [pair for edge in LOSSES for pair in _pairs(edge, counts[edge])]
        kills = [*edges, *(point for each in lines for point in each)]
        doubled = self._chance.sample(kills, max(1, len(kills) // DOUBLES_OF))
        points += [(point, Point(Edge.LINE, self._chance.randint(1, recovery))) for point in doubled]
        made = [Plan(self.row.handler, each, again=again) for each in points for again in (False, True)]
        self._chance.shuffle(made)
        made = [plan for plan in (*made, *self._by_rounds(lines)) if kind_of(plan) in self._share.kinds]
        for plan in made:
            self.row.points[kind_of(plan)] += 1
        self.row.lines = frozenset(counted.spots)
        return self._mixed(made)

    def _lines(self, counted: Outcome) -> list[list[Point]]:
        """The points of each line: the first time it is executed, the last time, and one in between by chance."""
        if self._share.every_time:
            return [[Point(Edge.LINE, n)] for n in range(1, counted.counts[Edge.LINE] + 1)]
        lines = []
        for spot, times in sorted(counted.spots.items()):
            some = {1, times, self._chance.randint(2, times - 1) if times > 2 else 1}
            lines.append([Point(Edge.LINE, n, spot) for n in sorted(some)])
        return lines

    def _by_rounds(self, lines: list[list[Point]]) -> list[Plan]:
        """Each line once and with a caller who comes again, before any line a second time."""
        rounds = itertools.zip_longest(
            *([(point, again) for point in each for again in (True, False)] for each in lines)
        )
        made = []
        for each in rounds:
            plans = [Plan(self.row.handler, (one[0],), again=one[1]) for one in each if one is not None]
            self._chance.shuffle(plans)
            made += plans
        return made

    def _mixed(self, plans: list[Plan]) -> list[Plan]:
        """Each kind in its turn until it has no more: the rare ones are all among the first."""
        kinds: dict[str, list[Plan]] = {}
        for plan in plans:
            kinds.setdefault(kind_of(plan), []).append(plan)
        names = [name for name in FAULTS if name in kinds]
        turn = 2 * self._first % len(names)
        columns = [kinds[name] for name in names[turn:] + names[:turn]]
        return [plan for rank in itertools.zip_longest(*columns) for plan in rank if plan is not None]


def _pairs(edge: Edge, count: int) -> Iterator[tuple[Point, ...]]:
    """Both answers of one kind; the second may be that of what was sent again, or one to the process that recovers."""
    more = MORE_SENDS if edge is Edge.LOST_COMMIT else 0
    for one, other in itertools.combinations(range(1, count + more + 1), 2):
        if one <= count:
            yield Point(edge, one), Point(edge, other)


class Database:
    """One place, emptied now and then, and whenever a law was broken on it."""

    def __init__(self, kind: str, url: str, parts: Parts = SOUND) -> None:
        self._kind, self._url, self._parts = kind, url, parts
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ran = 0
        self._rig: Rig | None = None

    def run(self, plan: Plan) -> Outcome:
        if self._rig is None or self._ran >= FRESH_AFTER:
            self._renew()
        assert self._rig is not None
        self._ran += 1
        outcome = self._rig.run(plan)
        if outcome.broken:
            self.close()
        return outcome

    def close(self) -> None:
        rig, self._rig = self._rig, None
        if rig is not None:
            rig.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _renew(self) -> None:
        self.close()
        self._ran = 0
        if self._kind == "sqlite":
            place, self._folder = sqlite_place()
        else:
            place = Place(self._kind, self._url)
            _emptied(place)
        self._rig = Rig(place, self._parts)


def _emptied(place: Place) -> None:
    """In a process of its own: drivers leave threads behind, and a process with threads cannot fork."""
    bank = Bank(SmallQPay(lambda: 0))
    bank.run(lambda _: place.empty(Striker(Shared())))
    assert not bank.broken, bank.broken


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of the table one process makes: every `of`-th trial from `number`, until `budget` seconds are over.

    `every_time` strikes each time that a line is executed; else a line is struck the first time, the last time and one
    time in between. `done` are the plans that are not run again, with what each struck.
    """

    database: str
    url: str
    handlers: tuple[str, ...]
    number: int = 0
    of: int = 1
    budget: float = 0.0
    seed: int = 0
    kinds: tuple[str, ...] = FAULTS
    every_time: bool = False
    until_broken: bool = False
    done: Mapping[str, str] = field(default_factory=dict)


MOST_BUDGETS: Final = 50
"""How many budgets more a rare fault is waited for."""

MOST_BROKEN: Final = 10
"""Laws broken in one row, after which it is clear enough."""

Tell: TypeAlias = Callable[[Row, Trial], bool]
"""Hears of each trial; False ends the share."""


def made(share: Share, tell: Tell, parts: Parts = SOUND) -> None:
    """Run a share of one database's rows; a budget is kept once every fault has struck that can."""
    with closing(Database(share.database, share.url, parts)) as database:
        _made(share, database, tell)


def _made(share: Share, database: Database, tell: Tell) -> None:
    until = time.monotonic() + share.budget
    rows = [Row(handler, share.database) for handler in share.handlers]
    queues = [(row, _queue(row, place, share, database)) for place, row in enumerate(rows)]
    seen = Counter(share.done.values())
    while queues:
        for row, queue in list(queues):
            if share.budget and _over(until, share.budget, rows, seen):
                return
            trial = next(queue, None)
            if trial is None:
                queues.remove((row, queue))
                continue
            row.note(trial)
            seen[trial.kind] += trial.hit
            if not tell(row, trial) or (row.broken and share.until_broken):
                return


def _over(until: float, budget: float, rows: Sequence[Row], seen: Counter[str]) -> bool:
    """Whether the time is used up; what has not struck, and can, gets some more."""
    now = time.monotonic()
    waited_for = {fault for row in rows for fault in row.points if not seen[fault]}
    begun = all(row.points or row.broken for row in rows)
    return now >= until + MOST_BUDGETS * budget or (now >= until and begun and not waited_for)


def _queue(row: Row, place: int, share: Share, database: Database) -> Iterator[Trial]:
    group = Group(row, Random(f"{share.seed} {row.handler} {row.database}"), place, share)
    database.run(group.counting())  # what a process does only once is done, and is not counted
    counted = database.run(group.counting())
    plans = [] if counted.broken else group.plans(counted)[share.number :: share.of]
    yield _told(share.database, counted)
    for plan in plans:
        if len(row.broken) >= MOST_BROKEN:
            return
        if str(plan) not in share.done:
            yield _told(share.database, database.run(plan))


ALL: Final = tuple(HANDLERS)
