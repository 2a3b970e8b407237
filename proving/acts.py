"""What shops, payers and QPay do with one checkout: tables of behaviours, to which new ones are added as one line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, TypeAlias

from proving.faults import Fault
from proving.payers import PAYERS, Checkout, in_time, pays
from proving.qpay import Bill
from proving.world import Gone, World
from tulbur.core.orders import Item
from tulbur.core.schedule import MOST_HINTS
from tulbur.core.session import SECOND, Reason, Session
from tulbur.errors import ProviderError, TulburError
from tulbur.payments import OpenRequest, Payments

MOST_OPENINGS: Final = 8
MOST_DELIVERIES: Final = 8
QPAY_RETRIES_SECONDS: Final = (1, 5, 30, 120, 600, 1800, 3600)
NINETY_DAYS: Final = 90 * 86_400


# --- money -----------------------------------------------------------------------------------------------------------


async def payer(w: World, c: Checkout) -> None:
    odd = next((fault for fault in PAYERS if fault in w.faults.odds and w.faults.fires(fault)), None)
    purse = (PAYERS[odd] if odd else pays)(w, c)
    await asyncio.gather(*(_pay(w, c, *coin) for coin in purse))


async def _pay(w: World, c: Checkout, seconds: float, amount: int, currency: str) -> None:
    await asyncio.sleep(seconds)
    bill = _payable(w, c)
    if bill is None:
        return
    await paid(w, c, bill, amount, currency)


def _payable(w: World, c: Checkout) -> Bill | None:
    """An invoice whose QR the payer has: mostly the newest."""
    shown = [w.qpay.bills[id_] for id_ in c.shown]
    live = [bill for bill in shown if not bill.cancelled]
    if live:
        return live[-1] if w.rng.random() < 0.8 else w.rng.choice(live)
    return shown[-1] if shown and w.faults.fires(Fault.PAID_CANCELLED) else None


async def unseen(w: World, c: Checkout) -> None:
    """Somebody pays an invoice of which the shop never heard; QPay calls, and does not give up."""
    await asyncio.sleep(in_time(w, c))
    known = {attempt.id for attempt in w.oracle.stored(c.session_id).attempts} if c.session_id else set()
    hidden = [bill for bill in bills(w, c) if bill.id not in known and not bill.cancelled]
    if hidden and w.faults.fires(Fault.PAID_UNSEEN):
        await paid(w, c, w.rng.choice(hidden), c.amount, "MNT", surely=True)


async def paid(w: World, c: Checkout, bill: Bill, amount: int, currency: str, *, surely: bool = False) -> None:
    """Money reaches QPay, which shows it now or later and calls, perhaps."""
    if any(p.invoice_id != bill.id for other in bills(w, c) for p in other.payments):
        w.faults.count(Fault.PAID_TWO)
    payment_id = w.qpay.pay(bill.id, amount, currency=currency, crossing=bill.cancelled)
    w.tell(f"{c.session_id} {payment_id} {amount} {currency} on {bill.id}")
    from_ = w.clock()
    if w.faults.fires(Fault.QPAY_LATE_SIGHT):
        from_ += int(w.rng.choice((5, 60, 3600)) * w.rng.random() * SECOND)
    w.sight.from_[payment_id] = from_
    refund = _refund(w, bill, payment_id) if w.faults.fires(Fault.QPAY_REFUNDED) else None
    await asyncio.gather(_called_back(w, c, payment_id, surely=surely), *([refund] if refund else []))


async def _refund(w: World, bill: Bill, payment_id: str) -> None:
    await asyncio.sleep(w.rng.uniform(0, 3600))
    bill.payments = [replace(p, status="REFUNDED") if p.id == payment_id else p for p in bill.payments]


# --- QPay's callbacks ----------------------------------------------------------------------------------------------


async def _called_back(w: World, c: Checkout, payment_id: str, *, surely: bool) -> None:
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


# --- shops, payers' pages, operators ---------------------------------------------------------------------------------


async def opens(w: World, c: Checkout) -> None:
    """The shop opens the session, and again with the same key until it has an invoice."""
    for _ in range(MOST_OPENINGS):
        try:
            session = await w.ask(lambda payments: payments.open(c.request))
        except ProviderError as error:
            c.session_id = error.session_id or c.session_id
        except (Gone, TulburError):
            pass
        else:
            _shown(w, c, session)
            return
        await asyncio.sleep(w.rng.uniform(0.1, 40))
    w.tell(f"{c.session_id} the shop gave up opening it")


async def reopens(w: World, c: Checkout) -> None:
    await _asked(w, c, lambda payments: payments.open(c.request))


async def looks(w: World, c: Checkout) -> None:
    await _asked(w, c, lambda payments: payments.check(str(c.session_id)))


async def reads(w: World, c: Checkout) -> None:
    await _asked(w, c, lambda payments: payments.get(str(c.session_id)))


async def cancels(w: World, c: Checkout) -> None:
    await _asked(w, c, lambda payments: payments.cancel(str(c.session_id)))


async def examines(w: World, c: Checkout) -> None:
    await _asked(w, c, lambda payments: payments.check(str(c.session_id), Reason.OPERATOR))


async def forges(w: World, c: Checkout) -> None:
    if w.faults.fires(Fault.CALLBACK_FORGED):
        await call_back(w, str(c.session_id), f"forged-{w.new_id()}")


async def floods(w: World, c: Checkout) -> None:
    """Whoever knows a callback's address makes up more payment ids than a session keeps."""
    if w.faults.fires(Fault.CALLBACK_FLOOD):
        for _ in range(MOST_HINTS + 3):
            await call_back(w, str(c.session_id), f"flood-{w.new_id()}")


async def confuses(w: World, c: Checkout) -> None:
    others = [p.id for bill in w.qpay.bills.values() if bill not in bills(w, c) for p in bill.payments]
    if others and w.faults.fires(Fault.CALLBACK_OTHERS):
        await call_back(w, str(c.session_id), w.rng.choice(others))


Act: TypeAlias = Callable[[World, Checkout], Awaitable[None]]

ACTS: Final[tuple[tuple[float, int, Act], ...]] = (
    (0.5, 3, looks),
    (0.4, 2, reads),
    (0.2, 1, reopens),
    (0.2, 2, cancels),
    (0.1, 1, examines),
    (0.6, 2, forges),
    (0.6, 1, confuses),
    (1.0, 1, floods),
)
"""What else happens to a checkout: how often it does at all, how many times at most, and the act."""


async def story(w: World, c: Checkout) -> None:
    """One checkout from its opening to the last thing anybody does with it."""
    await asyncio.sleep(c.opened_at)
    await opens(w, c)
    if c.session_id is None:
        c.session_id = named_session(w, c)
    if c.session_id is None:
        return
    others: list[Coroutine[Any, Any, None]] = [
        _at(w, c, act) for odds, most, act in ACTS if w.rng.random() < odds for _ in range(w.rng.randrange(1, most + 1))
    ]
    await asyncio.gather(payer(w, c), unseen(w, c), *others)


async def _at(w: World, c: Checkout, act: Act) -> None:
    await asyncio.sleep(w.rng.uniform(0, c.seconds * 1.1))
    await act(w, c)


async def _asked(w: World, c: Checkout, make: Callable[[Payments], Coroutine[Any, Any, Session]]) -> None:
    try:
        session = await w.ask(make)
    except (Gone, TulburError):
        return
    _shown(w, c, session)


def _shown(w: World, c: Checkout, session: Session) -> None:
    w.oracle.told(session)
    c.session_id = session.id
    if session.payable is not None and session.payable.id not in c.shown:
        c.shown.append(str(session.payable.id))


def named_session(w: World, c: Checkout) -> str | None:
    """The session stored under the shop's key, whether anybody was told of it or not."""
    return w.data.keys.get((c.request.scope, str(c.request.idempotency_key)))


def bills(w: World, c: Checkout) -> list[Bill]:
    """The invoices QPay has made for it."""
    if c.session_id is None:
        return []
    ours = {attempt.sender_invoice_no for attempt in w.oracle.stored(c.session_id).attempts}
    return [bill for bill in w.qpay.bills.values() if bill.request.sender_invoice_no in ours]


def checkout(w: World, number: int) -> Checkout:
    """A cart of one or two shops."""
    rng = w.rng
    items = tuple(
        Item(shop_id=f"s{n}", product_id=f"p{n}", title="Цай", quantity=1, unit_price=rng.randrange(1, 500) * 100)
        for n in range(rng.choice((1, 1, 2)))
    )
    request = OpenRequest(
        user_id="u1",
        amount=sum(item.total for item in items) + 100,
        items=items,
        shipping_amount=100,
        expires_in=rng.choice((60, 300, 1800)),
        cache_seconds=rng.choice((60, 600)),
        scope="shop",
        idempotency_key=f"key-{number}",
        body_digest="digest",
    )
    return Checkout(request, rng.uniform(0, 30))
