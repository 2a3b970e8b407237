"""QPay's callbacks about one checkout: lost, late, several at once, again and again until SUCCESS is heard."""

from __future__ import annotations

import asyncio
from typing import Final

from proving.faults import Fault
from proving.payers import Checkout
from proving.qpay import Bill
from proving.world import Gone, World
from tulbur.errors import TulburError

QPAY_RETRIES_SECONDS: Final = (1, 5, 30, 120, 600, 1800, 3600)
NINETY_DAYS: Final = 90 * 86_400


async def called_back(w: World, c: Checkout, payment_id: str, *, surely: bool) -> None:
    if not surely and w.faults.fires(Fault.CALLBACK_LOST):
        return
    delay = w.rng.uniform(0, 2)
    if w.faults.fires(Fault.CALLBACK_LATE):
        delay = w.rng.uniform(60, 7200)
    if w.faults.fires(Fault.CALLBACK_AGED):
        delay = NINETY_DAYS
    named = "" if not surely and w.faults.fires(Fault.CALLBACK_NAMELESS) else payment_id
    copies = w.rng.randrange(2, 6) if w.faults.fires(Fault.CALLBACK_AT_ONCE) else 1
    await asyncio.sleep(delay)
    await asyncio.gather(*(deliver(w, c, named) for _ in range(copies)))
    if w.faults.fires(Fault.CALLBACK_TWICE):
        await asyncio.sleep(w.rng.uniform(0, 600))
        await deliver(w, c, named)


async def deliver(w: World, c: Checkout, payment_id: str) -> bool:
    """Call until SUCCESS is heard, a bounded number of times."""
    for seconds in (*QPAY_RETRIES_SECONDS, 0):
        session_id = c.session_id or named_session(w, c)
        if session_id is not None and await call_back(w, session_id, payment_id):
            return True
        await asyncio.sleep(seconds)
    return False


async def call_back(w: World, session_id: str, payment_id: str) -> bool:
    """One callback; True when it was answered SUCCESS."""
    try:
        outcome = await w.ask(lambda payments: payments.callback(session_id, payment_id))
    except (Gone, TulburError):
        return False
    w.tell(f"{session_id} callback {payment_id!r}: {outcome}")
    w.oracle.answered(session_id, payment_id)
    return True


def named_session(w: World, c: Checkout) -> str | None:
    """The session stored under the shop's key, whether anybody was told of it or not."""
    return w.data.keys.get((c.request.scope, str(c.request.idempotency_key)))


def bills(w: World, c: Checkout) -> list[Bill]:
    """The invoices QPay has made for it."""
    if c.session_id is None:
        return []
    ours = {attempt.sender_invoice_no for attempt in w.oracle.stored(c.session_id).attempts}
    return [bill for bill in w.qpay.bills.values() if bill.request.sender_invoice_no in ours]
