"""When to ask QPay next, and whether one more question is allowed: functions of the history and the time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tulbur.core.session import SECOND, Asks, Hint, HintState, Look, Micros, Reason, Session
from tulbur.core.values import replace

LADDER_SECONDS: Final = (3, 10, 30, 120, 600)
"""Looks after a callback; only answered questions use one up."""

PAYER_PAUSE_SECONDS: Final = 10
"""The payer's page asks at most this often for one session."""

BUSY_SECONDS: Final = 20
"""Longest a question can be under way; after that another may be asked."""

LONGEST_WAIT_SECONDS: Final = 540
"""Longest pause between two tries of a question QPay does not answer: with the question itself, and a worker that is
busy, what was asked in vain just before QPay came back is answered within ten minutes of its return."""

BUDGETS: Final[Mapping[Reason, int]] = {
    Reason.CALLBACK: 40,
    Reason.PAYER: 60,
    Reason.DEADLINE: 12,
    Reason.SWEEP: 12,
    Reason.OPERATOR: 200,
}
"""Questions per session and UTC day, by class."""

MOST_HINTS: Final = 50
"""Different payment ids kept per session; one more is kept as an unmatched payment."""

DAY: Final = 86_400 * SECOND


def may_ask(session: Session, reason: Reason, now: Micros, *, new_hint: bool = False) -> bool:
    """Whether a question may be asked now. The first look for a new payment id is never refused."""
    asks = session.asks
    if new_hint:
        return True
    if asks.busy_until > now or asked_today(asks, reason, now) >= BUDGETS[reason]:
        return False
    return reason is not Reason.PAYER or now - asks.last_at >= PAYER_PAUSE_SECONDS * SECOND


def asked_today(asks: Asks, reason: Reason, now: Micros) -> int:
    return asks.counts.get(reason, 0) if asks.day == now // DAY else 0


def counted(asks: Asks, reason: Reason, now: Micros) -> Asks:
    """One more question under way."""
    day = now // DAY
    counts = dict(asks.counts) if asks.day == day else {}
    counts[reason] = counts.get(reason, 0) + 1
    return replace(asks, day=day, counts=counts, last_at=now, busy_until=now + BUSY_SECONDS * SECOND)


def renewal(now: Micros) -> Micros:
    """When the budgets of today are renewed."""
    return (now // DAY + 1) * DAY


def postponed(look: Look, now: Micros) -> Look:
    """A look whose question is being asked: due again, later each time, should no answer come back."""
    if look.at > now:
        return look
    wait = min(BUSY_SECONDS * 2**look.tries, LONGEST_WAIT_SECONDS)
    return replace(look, at=now + wait * SECOND, tries=min(look.tries + 1, 10))


def climbed(look: Look, now: Micros) -> Look | None:
    """The next rung after an answered look, or None at the end of the ladder."""
    rung = look.rung + 1
    if rung >= len(LADDER_SECONDS):
        return None
    return Look(look.reason, now + LADDER_SECONDS[rung] * SECOND, rung)


def first_rung(now: Micros) -> Look:
    return Look(Reason.CALLBACK, now + LADDER_SECONDS[0] * SECOND)


def waiting(hints: tuple[Hint, ...]) -> tuple[Hint, ...]:
    return tuple(hint for hint in hints if hint.state is HintState.WAITING)


def due_reason(session: Session, now: Micros) -> Reason | None:
    """Why the worker should ask about this session now; the callback's reason goes first."""
    due = [look.reason for look in session.looks if look.at <= now]
    return min(due, key=list(Reason).index, default=None)
