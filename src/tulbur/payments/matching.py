"""Payments without a session: looked up at QPay by their id, a few times, until they have one or are done with."""

from __future__ import annotations

from typing import Final

from tulbur.core.custody import Custody
from tulbur.core.session import RECEIVED, SECOND, Reason
from tulbur.core.settling import SeenPayment
from tulbur.core.values import replace
from tulbur.errors import NotFound, ProviderError, ProviderRefused, SourceUnavailable
from tulbur.payments.belonging import Belonging, Whose, belonging, bring
from tulbur.payments.desk import Desk
from tulbur.payments.following import known
from tulbur.ports import Unmatched

LOOKS_SECONDS: Final = (30, 300, 3600, 86_400)
"""Looks at a payment without a session, each so long after the one before; only answered ones are used up."""

BUSY_SECONDS: Final = 120
"""Longest a look can be under way; after that another process may look. As long an unanswered one waits."""

CLOSED_BY: Final = "tulbur"


def first_look(payment_id: str, now: int, session_id: str = "") -> Unmatched:
    """A bare hint, to be looked up soon."""
    due_at = now + LOOKS_SECONDS[0] * SECOND
    return Unmatched(payment_id=payment_id, seen_at=now, due_at=due_at, hinted_session_id=session_id)


def of_payment(payment: SeenPayment, now: int) -> Unmatched:
    """Money QPay shows, of no session we can tell."""
    return _with_facts(first_look(payment.id, now), payment)


def _with_facts(row: Unmatched, payment: SeenPayment) -> Unmatched:
    return replace(
        row,
        invoice_id=payment.invoice_id,
        amount=payment.amount,
        currency=payment.currency,
        status=payment.status,
        method=payment.method,
        wallet=payment.wallet,
        paid_at=payment.paid_at,
        raw=payment.raw,
    )


async def look(desk: Desk, row: Unmatched) -> None:
    """Look one payment up that is due: its session hears of it, or its facts are kept, or it is closed.

    The look is claimed in the database first. QPay's silence uses none up.
    """
    claimed = replace(row, due_at=desk.clock() + BUSY_SECONDS * SECOND)
    if claimed.due_at == row.due_at or not await desk.store.unmatched_looked(claimed, row.due_at):
        return
    desk.sink.asked(Reason.CALLBACK)
    try:
        payment = await _payment(desk, row.payment_id)
        found = await belonging(desk, payment) if payment else None
        if await _brought(desk, row, found):
            return
    except (ProviderError, SourceUnavailable):
        return
    if payment is None or found is None:
        await _nothing(desk, claimed)
        return
    seen = _with_facts(claimed, payment)
    followed = bool(row.hinted_session_id) and await _is_followed(desk, row.hinted_session_id)
    if found.whose is Whose.FOREIGN and not followed:
        await _next(desk, seen, claimed)
        await _close(desk, row.payment_id, "foreign: an invoice that is not ours")
        return
    if payment.status not in RECEIVED and _is_last(claimed):
        await _close(desk, row.payment_id, f"no money: QPay shows it as {payment.status}")
        return
    await _next(desk, seen, claimed)


async def _payment(desk: Desk, payment_id: str) -> SeenPayment | None:
    """The payment, None when QPay has nothing to show under this id."""
    try:
        return await desk.provider.get_payment(payment_id)
    except ProviderRefused as refusal:
        if refusal.provider_status in (401, 403):
            raise  # it is us whom QPay refuses
        return None


async def _brought(desk: Desk, row: Unmatched, found: Belonging | None) -> bool:
    """Tell the session of it: the one its invoice leads to, else the one a callback named."""
    if found is None:
        return False
    if found.session is not None:
        if not row.hinted_session_id and found.whose is Whose.THEIRS:
            return False  # a sweep found it, and nobody called us: it waits for the old shop's last word
        return await bring(desk, found, found.session.id)
    if not row.hinted_session_id or await known(desk, row.hinted_session_id) is None:
        return False
    return await bring(desk, found, row.hinted_session_id)


async def _is_followed(desk: Desk, session_id: str) -> bool:
    try:
        return (await desk.stored(session_id)).custody is Custody.FOLLOWED
    except NotFound:
        return False


def _is_last(row: Unmatched) -> bool:
    return row.tries + 1 >= len(LOOKS_SECONDS)


async def _nothing(desk: Desk, claimed: Unmatched) -> None:
    """QPay knows no such payment. A bare hint ends so; money that was seen once stays on the list."""
    if claimed.amount is None and _is_last(claimed):
        await _close(desk, claimed.payment_id, "no such payment: QPay never showed it")
    else:
        await _next(desk, claimed, claimed)


async def _next(desk: Desk, seen: Unmatched, claimed: Unmatched) -> None:
    tries = claimed.tries + 1
    wait = LOOKS_SECONDS[tries] if tries < len(LOOKS_SECONDS) else None
    due_at = None if wait is None else desk.clock() + wait * SECOND
    if due_at == claimed.due_at:
        due_at = desk.clock() + (wait or 0) * SECOND + 1
    await desk.store.unmatched_looked(replace(seen, tries=tries, due_at=due_at), claimed.due_at)


async def _close(desk: Desk, payment_id: str, why: str) -> None:
    await desk.store.close_unmatched(payment_id, now=desk.clock(), note={"by": CLOSED_BY, "note": why})
