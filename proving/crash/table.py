"""The table: every point of every handler on every database, or a sample of them within a budget of time."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from proving.crash.bank import Bank
from proving.crash.databases import Place, sqlite_place
from proving.crash.handlers import HANDLERS
from proving.crash.shared import KILLS, LOSSES, Edge, Shared
from proving.crash.shop import SOUND, Parts
from proving.crash.strikes import Striker
from proving.crash.trial import Outcome, Plan, Point, Rig
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


@dataclass(slots=True)
class Row:
    """One handler on one database. Of the `points` there are each counts twice: the caller comes again, or does not."""

    handler: str
    database: str
    points: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, part: Row) -> None:
        """What another process ran of the same points."""
        self.points = max(self.points, part.points, key=Counter.total)
        self.struck.update(part.struck)
        self.missed += part.missed
        self.broken += part.broken

    def note(self, outcome: Outcome) -> None:
        kind = kind_of(outcome.plan)
        if outcome.broken:
            self.broken.append(f"{outcome.plan} ({outcome.where or 'nothing struck'})\n{outcome.broken}")
        if kind is None:
            return
        if _hit(outcome, kind):
            self.struck[kind] += 1
        elif not outcome.broken:
            self.missed += 1


def kind_of(plan: Plan) -> str | None:
    if not plan.points:
        return None
    if len(plan.points) == 2:
        return PAIR if plan.points[0][0] in LOSSES else SECOND
    return plan.points[0][0]


def _hit(outcome: Outcome, kind: str) -> bool:
    return len(outcome.struck) == (2 if kind in (PAIR, SECOND) else 1)


class Group:
    """The trials of one row, counted first, then in an order by chance, every kind early."""

    def __init__(self, row: Row, chance: Random, first: int, kinds: Sequence[str]) -> None:
        self.row = row
        self._kinds = kinds
        self._chance = chance
        self._first = first

    def counting(self) -> list[Plan]:
        """What has to be run before it is known how many points there are."""
        return [Plan(self.row.handler)]

    def plans(self, counted: list[Outcome]) -> list[Plan]:
        counts = counted[0].counts
        recovery = min(one.again.get(Edge.LINE, 0) for one in counted)
        kills = [(edge, n) for edge in KILLS for n in range(1, counts[edge] + 1)]
        losses = [(edge, n) for edge in LOSSES for n in range(1, counts[edge] + 1)]
        points: list[tuple[Point, ...]] = [(point,) for point in (*kills, *losses)]
        points += [pair for edge in LOSSES for pair in _pairs(edge, counts[edge])]
        doubled = self._chance.sample(kills, max(1, len(kills) // DOUBLES_OF))
        points += [(point, (Edge.LINE, self._chance.randint(1, recovery))) for point in doubled]
        made = [Plan(self.row.handler, each, again=again) for each in points for again in (False, True)]
        made = [plan for plan in made if kind_of(plan) in self._kinds]
        for plan in made:
            self.row.points[kind_of(plan) or ""] += 1
        return self._mixed(made)

    def _mixed(self, plans: list[Plan]) -> list[Plan]:
        """By chance, but each kind in its turn until it has no more: the rare ones are all among the first."""
        self._chance.shuffle(plans)
        kinds: dict[str | None, list[Plan]] = {}
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
            yield (edge, one), (edge, other)


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
            self._rig = None
        return outcome

    def _renew(self) -> None:
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
    """Which part of the table one process makes: every `of`-th trial from `number`, until `budget` seconds are over."""

    database: str
    url: str
    handlers: tuple[str, ...]
    number: int = 0
    of: int = 1
    budget: float = 0.0
    seed: int = 0
    kinds: tuple[str, ...] = FAULTS
    until_broken: bool = False


MOST_BUDGETS: Final = 50
"""How many budgets more a rare fault is waited for."""

MOST_BROKEN: Final = 10
"""Laws broken in one row, after which it is clear enough."""


def made(share: Share, tell: Callable[[Row, Outcome], None], parts: Parts = SOUND) -> list[Row]:
    """Run a share of one database's rows; a budget is kept once every fault has struck that can."""
    database = Database(share.database, share.url, parts)
    until = time.monotonic() + share.budget
    rows = [Row(handler, share.database) for handler in share.handlers]
    queues = [_queue(row, place, share, database, tell) for place, row in enumerate(rows)]
    seen: Counter[str] = Counter()
    while queues:
        for queue in list(queues):
            if share.budget and _over(until, share.budget, rows, seen):
                return rows
            kind = next(queue, "")
            if share.until_broken and any(row.broken for row in rows):
                return rows
            if kind == "":
                queues.remove(queue)
            elif kind is not None:
                seen[kind] += 1
    return rows


def _over(until: float, budget: float, rows: Sequence[Row], seen: Counter[str]) -> bool:
    """Whether the time is used up; what has not struck, and can, gets some more."""
    now = time.monotonic()
    waited_for = {fault for row in rows for fault in row.points if not seen[fault]}
    begun = all(row.points or row.broken for row in rows)
    return now >= until + MOST_BUDGETS * budget or (now >= until and begun and not waited_for)


def _queue(
    row: Row, place: int, share: Share, database: Database, tell: Callable[[Row, Outcome], None]
) -> Iterator[str | None]:
    group = Group(row, Random(f"{share.seed} {row.handler} {row.database}"), place, share.kinds)
    counted = [database.run(plan) for plan in group.counting()]
    for outcome in counted:
        row.note(outcome)
        tell(row, outcome)
        yield None
    if row.broken:
        return
    for plan in group.plans(counted)[share.number :: share.of]:
        outcome = database.run(plan)
        row.note(outcome)
        tell(row, outcome)
        if len(row.broken) >= MOST_BROKEN:
            return
        kind = kind_of(plan)
        yield kind if kind is not None and _hit(outcome, kind) else None


ALL: Final = tuple(HANDLERS)
