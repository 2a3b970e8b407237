"""When to sweep, and which time: functions of what was swept before and the time now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tulbur.core.schedule import DAY
from tulbur.core.session import SECOND, Micros

ULAANBAATAR: Final = 8 * 3600 * SECOND
"""How far the clocks of Ulaanbaatar are ahead of UTC; there has been no summer time since 2016."""

LAG_SECONDS: Final = 300
"""A sweep ends so long before now: QPay may list a payment a little later than it was made."""

OVERLAP_SECONDS: Final = 3600
"""A sweep begins so long before the end of the one before: what became visible late is found by the next one."""

DAILY_AT: Final = 1800 * SECOND
"""When the daily sweep is due, after midnight in Ulaanbaatar."""

FIRST_SECONDS: Final = 600
"""A deployment that never swept begins so long after its start."""

FIRST_DAYS: Final = 3
"""How far back its first sweep looks."""

DOWNTIME_SECONDS: Final = 3600
"""After a start, nothing is caught up when the last sweep ended less than so long ago."""

MOST_DAYS: Final = 90
"""How far back a sweep by itself ever looks; a person may ask for more."""

PAUSE_SECONDS: Final = 600
"""Shortest time between two sweeps that nobody asked for."""

TROUBLE_SECONDS: Final = 3600
"""The same after one that was not complete."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time to sweep; `end` is not in it."""

    start: Micros
    end: Micros
    reason: str


@dataclass(frozen=True, slots=True)
class Last:
    """The newest sweep of all: when it began, and whether it saw everything."""

    at: Micros
    complete: bool


def due(now: Micros, *, until: Micros | None, last: Last | None, started_at: Micros, back: bool) -> Window | None:
    """What is to be swept now, without being asked: `until` was swept before, `back` says that QPay was away since.

    A process that has just started catches up once; `last` holds for all processes together.
    """
    if last is not None and now - last.at < _pause(last) * SECOND:
        return None
    end = (now - LAG_SECONDS * SECOND) // SECOND * SECOND
    if until is None:
        return Window(end - FIRST_DAYS * DAY, end, "daily") if now - started_at >= FIRST_SECONDS * SECOND else None
    start = max(until - OVERLAP_SECONDS * SECOND, end - MOST_DAYS * DAY)
    if end <= until:
        return None
    if back or (until < started_at and started_at - until >= DOWNTIME_SECONDS * SECOND):
        return Window(start, end, "catch_up")
    return Window(start, end, "daily") if until < last_daily(now) - DAILY_AT else None


def _pause(last: Last) -> int:
    return PAUSE_SECONDS if last.complete else TROUBLE_SECONDS


def last_daily(now: Micros) -> Micros:
    """The latest time at which a daily sweep was due."""
    return (now + ULAANBAATAR - DAILY_AT) // DAY * DAY - ULAANBAATAR + DAILY_AT


def by_days(start: Micros, end: Micros) -> list[tuple[Micros, Micros]]:
    """A long time in pieces of a day at most, so that what was done is kept when the rest fails."""
    return [(at, min(at + DAY, end)) for at in range(start, end, DAY)]
