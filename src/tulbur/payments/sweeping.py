"""The sweep: QPay's payment list compared with our records; what is missing is brought to its session."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tulbur.core import sweeping
from tulbur.core.schedule import waiting
from tulbur.core.session import RECEIVED, Micros, Reason, Session, rank
from tulbur.core.settling import SeenPayment
from tulbur.core.values import replace
from tulbur.errors import ProviderError, TulburError
from tulbur.payments.belonging import Belonging, Whose, belonging, bring, of_session
from tulbur.payments.desk import Desk
from tulbur.payments.listing import read
from tulbur.payments.matching import of_payment
from tulbur.ports import BECAME, SweepRun

AT_ONCE: Final = 8
"""Invoices dealt with at once."""

MOST_UNKNOWN: Final = 1_000
"""Invoices that QPay is asked about in one sweep, because no session here has them."""

MOST_NAMED: Final = 100
"""Payments named in a report; more are only counted."""

MOST_REASONS: Final = 3
"""Reasons why payments were not dealt with, named in a report."""

LEASE: Final = "sweep"
LEASE_SECONDS: Final = 900.0

OPERATOR: Final = "operator"
RECOVER: Final = "recover"

BY_ITSELF: Final = ("daily", "catch_up")


@dataclass(slots=True)
class Found:
    """What became of the listed payments; every one is counted once.

    `settled` were missing here and are recorded now; `waiting` are told to their session, which looks again.
    `reasons` says why some `failed`.
    `gone` are on invoices of ours whose session is not stored, `unclear` on ones QPay does not tell.
    """

    listed: int = 0
    no_money: int = 0
    known: int = 0
    settled: int = 0
    waiting: int = 0
    gone: int = 0
    unclear: int = 0
    foreign: int = 0
    failed: int = 0
    settled_ids: list[str] = field(default_factory=list)
    unmatched_ids: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    unknown_left: int = MOST_UNKNOWN
    foreign_invoices: set[str] = field(default_factory=set)

    def as_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in ("listed", *BECAME)},
            "settled_ids": self.settled_ids[:MOST_NAMED],
            "unmatched_ids": self.unmatched_ids[:MOST_NAMED],
        }


async def sweep(desk: Desk, start: Micros, end: Micros, reason: str) -> list[SweepRun]:
    """Sweep a time, day by day; each day is on record before it is asked about, and again when it is done.

    It ends now at the latest: what is still to come cannot have been seen.

    A run is complete when all of it was seen, and all that came before it since the last complete one: what was swept
    apart from the rest moves no border. Trouble in one day holds the next ones up no more than QPay does.
    """
    until = await desk.store.swept_until()
    adjoins = reason in BY_ITSELF if until is None else start <= until
    runs = []
    for first, last in sweeping.by_days(start, min(end, desk.clock())):
        run, seen = await _day(desk, first, last, reason, adjoins=adjoins)
        adjoins = adjoins and seen
        runs.append(run)
    return runs


async def _day(desk: Desk, start: Micros, end: Micros, reason: str, *, adjoins: bool) -> tuple[SweepRun, bool]:
    run = SweepRun(id=desk.new_id(), started_at=desk.clock(), start=start, end=end, reason=reason)
    await desk.store.sweep_put(run)
    listing = await read(desk.provider, start, end)
    found = await _compare(desk, listing.payments.values())
    trouble = listing.trouble or _trouble(found)
    report = {
        **found.as_json(),
        "seen": "all" if not trouble else "not all",
        "trouble": trouble,
        "pages": listing.pages,
    }
    run = replace(run, ended_at=desk.clock(), complete=adjoins and not trouble, report=report)
    await desk.store.sweep_put(run)
    desk.sink.swept(run)
    return run, not trouble


def _trouble(found: Found) -> str:
    if found.unknown_left < 0:
        return f"more than {MOST_UNKNOWN} payments on invoices not known here: ask for a shorter time"
    if not found.failed:
        return ""
    why = "; ".join(f"{reason} ({count})" for reason, count in found.reasons.most_common(MOST_REASONS))
    return f"{found.failed} payments could not be dealt with: {why}"


async def _compare(desk: Desk, payments: Iterable[SeenPayment]) -> Found:
    found = Found()
    by_invoice: dict[str, list[SeenPayment]] = {}
    for seen in payments:
        found.listed += 1
        # Those of one invoice one after the other: settled once, the session has them all.
        by_invoice.setdefault(seen.invoice_id or seen.id, []).append(seen)
    at_once = asyncio.Semaphore(AT_ONCE)

    again: list[SeenPayment] = []

    async def deal_with(same: list[SeenPayment]) -> None:
        async with at_once:
            for seen in same:
                try:
                    await _one(desk, found, seen)
                except TulburError:
                    again.append(seen)

    await asyncio.gather(*(deal_with(same) for same in by_invoice.values()))
    # A database that many asked at once may answer one who asks alone.
    for seen in again:
        try:
            await _one(desk, found, seen)
        except TulburError as error:
            found.failed += 1
            found.reasons[error.message] += 1
    return found


async def _one(desk: Desk, found: Found, seen: SeenPayment) -> None:
    if seen.status not in RECEIVED:
        found.no_money += 1
        return
    session = await desk.store.by_payment(seen.id)
    if session is not None and not _advanced(session, seen):
        found.known += 1
        return
    belongs = Belonging(Whose.OURS, seen, session) if session else await _whose(desk, found, seen)
    if belongs is None:
        return
    if belongs.whose in (Whose.FOREIGN, Whose.THEIRS):
        found.foreign += 1
        found.foreign_invoices.add(belongs.payment.invoice_id)
    elif belongs.session is not None:
        await _told(desk, found, belongs, belongs.session)
    else:
        await _unmatched(desk, found, belongs)


def _advanced(session: Session, seen: SeenPayment) -> bool:
    known = session.payment(seen.id)
    return known is None or rank(seen.status) > rank(known.status)


async def _whose(desk: Desk, found: Found, seen: SeenPayment) -> Belonging | None:
    session = await desk.store.by_invoice(seen.invoice_id) if seen.invoice_id else None
    if session is not None:
        return of_session(seen, session)
    if seen.invoice_id in found.foreign_invoices:
        return Belonging(Whose.FOREIGN, seen)
    found.unknown_left -= 1
    if found.unknown_left < 0:
        found.failed += 1
        return None
    desk.sink.asked(Reason.SWEEP)
    try:
        return await belonging(desk, seen)
    except ProviderError as silent:
        # Money was seen: it stays in sight, and is looked up until QPay says whose it is.
        await _keep(desk, found, seen)
        found.failed += 1
        found.reasons[silent.message] += 1
        return None


async def _told(desk: Desk, found: Found, belongs: Belonging, session: Session) -> None:
    seen = belongs.payment
    if await bring(desk, belongs, session.id):
        found.settled += 1
        found.settled_ids.append(seen.id)
        return
    stored = await desk.stored(session.id)
    if stored.payment(seen.id) is None and not any(hint.payment_id == seen.id for hint in waiting(stored.hints)):
        # The session can keep no more ids, or holds it for foreign. Its looks go on, and this one is not lost.
        await _keep(desk, found, seen)
    found.waiting += 1


async def _unmatched(desk: Desk, found: Found, belongs: Belonging) -> None:
    await _keep(desk, found, belongs.payment)
    if belongs.whose is Whose.GONE:
        found.gone += 1
    else:
        found.unclear += 1


async def _keep(desk: Desk, found: Found, seen: SeenPayment) -> None:
    kept = await desk.store.unmatched_payment(seen.id)
    known = kept is not None and kept.amount is not None and rank(seen.status) <= rank(kept.status)
    if not known and await desk.store.record_unmatched(of_payment(seen, desk.clock())):
        desk.sink.unmatched("", seen.id)
    if not known or kept is None or kept.closed_at is None:
        found.unmatched_ids.append(seen.id)


async def by_itself(desk: Desk, owner: str, *, started_at: Micros, back: bool) -> list[SweepRun]:
    """The daily sweep, or the one that catches up, when it is due; of many processes one does it."""
    window = await _due(desk, started_at=started_at, back=back)
    if window is None or not await desk.store.lease(LEASE, owner, LEASE_SECONDS):
        return []
    try:
        # Another may have swept between the two.
        window = await _due(desk, started_at=started_at, back=back)
        if window is None:
            return []
        return await sweep(desk, window.start, window.end, window.reason)
    finally:
        await desk.store.lease(LEASE, owner, 0)


async def _due(desk: Desk, *, started_at: Micros, back: bool) -> sweeping.Window | None:
    newest = await desk.store.sweeps(1)
    last = sweeping.Last(newest[0].started_at, newest[0].complete) if newest else None
    until = await desk.store.swept_until()
    return sweeping.due(desk.clock(), until=until, last=last, started_at=started_at, back=back)


async def recover(desk: Desk, since: Micros) -> tuple[list[SweepRun], bool]:
    """After a restore or a failover: forget what is cached, and sweep everything since; False when the cache kept some.

    What is cached may be newer than the database now, and is nothing that happened.
    """
    emptied = await desk.cache.flush()
    return await sweep(desk, since, desk.clock(), RECOVER), emptied
