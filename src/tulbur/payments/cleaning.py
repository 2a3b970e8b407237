"""Retention: finished sessions lose cart and personal data, batch by batch, and keep every key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tulbur.core import steps
from tulbur.core.custody import Custody
from tulbur.core.retention import blanked, is_over
from tulbur.core.schedule import DAY
from tulbur.core.session import SECOND, Invoice, InvoiceState, Micros, Reason, Session, Status
from tulbur.errors import ProviderError, ProviderRefused, StoreUnavailable, TulburError
from tulbur.payments.desk import Desk
from tulbur.payments.settling import settle
from tulbur.ports import MOST_COUNTED, MOST_ROWS, Cancelling, Committed, Leave, SessionQuery

BATCH: Final = 50
"""Sessions blanked in one transaction: some ten milliseconds during which nobody else waits for more than one row."""

MOST_BATCHES: Final = 20_000
"""Batches of one run, in which a million sessions are blanked; the next run goes on."""

MOST_EMPTY: Final = 20
"""Batches in a row of which nothing could be blanked although there is more: rows of an earlier or a later release."""

GRACE_SECONDS: Final = 3600
"""So long after its deadline a session is still the worker's, which may be busy, or have no answer of QPay's."""

MOST_PENDING: Final = 1000
"""Sessions that are read to find those past their deadline with nobody who looks."""

MOST_UNREADABLE: Final = 1000
"""Sessions of a status that are passed over since this release cannot read them; a run names them."""

NEVER: Final[Micros] = 0
"""A cutoff before which nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many days a session stays whole: `retention` when it is paid, `late` when money could still come late.

    `telling` False: there is no shop to tell, so that events which wait to be told keep no session back.
    """

    retention_days: int = 30
    late_days: int = 90
    telling: bool = True


@dataclass(slots=True)
class Cleaned:
    """What a run did, or would do.

    `paid` and `late` (EXPIRED and CANCELLED) were blanked, `cancelled` invoices at QPay before that. `left_open`:
    invoices QPay refused to cancel. `asked_again`: QPay says that money has come. `expired`: sessions past their
    deadline that nobody looked at. `answers`: raw answers of QPay's that were taken out of closed payments without a
    session. `unreadable`: sessions this release cannot read, which stay whole. `waits`: why late sessions, or those
    past their deadline, have to wait, "" when they do not. `more`: it ended at its limit.
    """

    dry_run: bool = False
    paid: int = 0
    late: int = 0
    cancelled: int = 0
    left_open: int = 0
    asked_again: int = 0
    expired: int = 0
    answers: int = 0
    stuck: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    waits: str = ""
    more: bool = False


@dataclass(frozen=True, slots=True)
class _Cutoffs:
    paid: Micros
    late: Micros
    leave: Leave


async def would_clean(desk: Desk, keep: Keep) -> Cleaned:
    """What `clean` would do now; nothing is changed and nobody is asked. Counts end at 10,000, invoices at 200 each."""
    before = _cutoffs(desk, keep)
    paid = await _counted(desk, before, Status.PAID, MOST_COUNTED)
    late = await _counted(desk, before, Status.EXPIRED, MOST_COUNTED)
    open_ones = await desk.store.late_invoices(late_before=before.late, limit=MOST_ROWS, leave=before.leave)
    report = Cleaned(dry_run=True, paid=paid, late=late, cancelled=sum(len(_open(one)) for one in open_ones))
    report.stuck = [session.id for session in await _stuck(desk)]
    report.answers = len(await desk.store.closed_unmatched(before.paid, MOST_ROWS))
    report.more = MOST_COUNTED in (paid, late)
    return report


async def clean(
    desk: Desk, keep: Keep, *, pause: Callable[[], Awaitable[None]], most_batches: int = MOST_BATCHES
) -> Cleaned:
    """Blank what is over, with a pause after each batch; killed at any moment, the next run goes on where it was."""
    report, before = Cleaned(), _cutoffs(desk, keep)
    left = most_batches
    for status, batch in ((Status.PAID, _paid_batch), (Status.EXPIRED, _late_batch)):
        empty = 0
        lost: frozenset[str] = frozenset()
        while left and empty < MOST_EMPTY and len(lost) < MOST_UNREADABLE and not report.waits:
            left -= 1
            next_ones = replace(before, leave=replace(before.leave, ids=lost))
            if await batch(desk, report, next_ones):
                empty = 0
            elif found := await _unreadable(desk, next_ones, status):
                lost |= found
            elif await _counted(desk, next_ones, status, 1):
                empty += 1
            else:
                break
            await pause()
        report.unreadable += sorted(lost)
    await _without_answers(desk, report, before.paid)
    report.more = not left
    # Last: one of these that cannot be read or looked at keeps nobody else's data.
    try:
        await _expire(desk, report)
    except StoreUnavailable as error:
        report.waits = report.waits or f"sessions past their deadline were not looked at: {error.message}"
    return report


async def _unreadable(desk: Desk, before: _Cutoffs, status: Status) -> frozenset[str]:
    """What stands before the rest and cannot be read, to be passed over from now on."""
    paid = status is Status.PAID
    found = await desk.store.unreadable(
        finished_before=before.paid if paid else NEVER,
        late_before=NEVER if paid else before.late,
        limit=BATCH,
        leave=before.leave,
    )
    return frozenset(found)


async def _without_answers(desk: Desk, report: Cleaned, closed_before: Micros) -> None:
    """Closed payments without a session keep their facts and what was decided, and lose QPay's raw answer."""
    for _ in range(MOST_COUNTED // MOST_ROWS):
        ids = await desk.store.closed_unmatched(closed_before, MOST_ROWS)
        if ids:
            await desk.store.blank_unmatched(ids)
            report.answers += len(ids)
        if len(ids) < MOST_ROWS:
            break


def _cutoffs(desk: Desk, keep: Keep) -> _Cutoffs:
    now = desk.clock()
    return _Cutoffs(now - keep.retention_days * DAY, now - keep.late_days * DAY, Leave(untold=keep.telling))


async def _counted(desk: Desk, before: _Cutoffs, status: Status, limit: int) -> int:
    paid = status is Status.PAID
    return await desk.store.blankable(
        finished_before=before.paid if paid else NEVER,
        late_before=NEVER if paid else before.late,
        limit=limit,
        leave=before.leave,
    )


async def _paid_batch(desk: Desk, report: Cleaned, before: _Cutoffs) -> int:
    count = await desk.store.blank(
        finished_before=before.paid, late_before=NEVER, now=desk.clock(), limit=BATCH, leave=before.leave
    )
    report.paid += count
    return count


async def _late_batch(desk: Desk, report: Cleaned, before: _Cutoffs) -> int:
    """Blank some EXPIRED and CANCELLED sessions; those with an open invoice one by one, with that invoice."""
    found = await desk.store.late_invoices(late_before=before.late, limit=BATCH, leave=before.leave)
    # What the store found and is not over, `blank` will tell it not to find again.
    over = [session for session in found if is_over(session)]
    done = 0
    try:
        for session in over:
            done += await _without_invoices(desk, report, session)
    except ProviderError as error:
        report.waits = f"an invoice could not be cancelled at QPay: {error.message}"
    if not over:
        # Who has joined them since has an invoice, perhaps, and is found by the next batch.
        leave = replace(before.leave, payable=True)
        done = await desk.store.blank(
            finished_before=NEVER, late_before=before.late, now=desk.clock(), limit=BATCH, leave=leave
        )
    report.late += done
    return done


async def _without_invoices(desk: Desk, report: Cleaned, before: Session) -> bool:
    """Cancel its invoices at QPay and blank it in one commit; False when money came, or somebody was faster.

    A commit of its own for the invoice would be a change, and the cart would stay for another LATE_DAYS.
    """
    after = before
    for attempt in _open(before):
        outcome = await _cancelled(desk, attempt)
        if outcome is Cancelling.PAID and not _knows_money_of(before, attempt):
            report.asked_again += 1
            await _look_for_money(desk, before.id, str(attempt.id))
            return False
        if outcome in (None, Cancelling.PAID):
            report.left_open += 1
        else:
            after = steps.invoice_cancelled(after, attempt.number, desk.clock())
            report.cancelled += 1
    gone = blanked(after, desk.clock())
    if gone is after:
        return False
    return await desk.commit(before, gone) is Committed.WON


async def _cancelled(desk: Desk, attempt: Invoice) -> Cancelling | None:
    """What QPay answered; None when it will not: its refusal must not keep the cart for ever."""
    try:
        return await desk.provider.cancel_invoice(str(attempt.id))
    except ProviderRefused as refusal:
        if refusal.provider_status in (401, 403):
            raise
        return None


async def _look_for_money(desk: Desk, session_id: str, invoice_id: str) -> None:
    await desk.step(session_id, lambda s: steps.hinted(s, invoice_id, desk.clock()))
    await settle(desk, session_id, Reason.CALLBACK)


def _knows_money_of(session: Session, attempt: Invoice) -> bool:
    return any(p.received and p.invoice_id == attempt.id for p in session.payments)


def _open(session: Session) -> list[Invoice]:
    return [attempt for attempt in session.attempts if attempt.state is InvoiceState.OPEN and attempt.id]


async def _expire(desk: Desk, report: Cleaned) -> None:
    """A session past its deadline with no look planned should not be; QPay is asked, and it expires."""
    for session in await _stuck(desk):
        if await _ends(desk, session.id):
            report.expired += 1
        else:
            report.stuck.append(session.id)


async def _ends(desk: Desk, session_id: str) -> bool:
    try:
        return (await settle(desk, session_id, Reason.DEADLINE)).session.status is not Status.PENDING
    except StoreUnavailable:
        raise
    except TulburError:
        return False


async def _stuck(desk: Desk) -> list[Session]:
    late_since = desk.clock() - GRACE_SECONDS * SECOND
    query = SessionQuery(status=Status.PENDING, created_before=late_since, limit=MOST_ROWS)
    found: list[Session] = []
    for _ in range(MOST_PENDING // MOST_ROWS):
        page = await desk.store.find(query)
        found += [s for s in page if s.expires_at < late_since and not s.looks and s.custody is Custody.OURS]
        if len(page) < MOST_ROWS:
            break
        query = SessionQuery(
            status=Status.PENDING,
            created_before=late_since,
            limit=MOST_ROWS,
            cursor=(page[-1].created_at, page[-1].id),
        )
    return found
