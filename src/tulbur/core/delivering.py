"""When an event is sent to the shop again, and when nobody tries any more: a function of the failures and the time."""

from __future__ import annotations

from typing import Final

from tulbur.core.session import SECOND, Micros

MINUTE: Final = 60
HOUR: Final = 3600

WAITS_SECONDS: Final = (5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR)
"""Pauses after each failed delivery, about 28 h in all; the failure after the last one parks the event."""

JITTER: Final = 0.1
"""By which share a pause is shorter or longer, so that what failed together does not come back together."""

LONGEST_ASKED_SECONDS: Final = HOUR
"""A shop that names a time to come back is not waited for longer than this, or than the schedule has it."""


def retry_at(attempts: int, now: Micros, chance: float, asked_seconds: float = 0) -> Micros | None:
    """When to deliver again what failed now, after `attempts` failures before; None parks it.

    `chance` is from 0 to 1; `asked_seconds` is what the shop asked for.
    """
    if attempts >= len(WAITS_SECONDS):
        return None
    wait = WAITS_SECONDS[attempts] * (1 - JITTER + 2 * JITTER * chance)
    return now + round(max(wait, min(asked_seconds, LONGEST_ASKED_SECONDS)) * SECOND)
