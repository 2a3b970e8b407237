"""What shops, payers and QPay do with one checkout: tables of behaviours, to which new ones are added as one line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

from proving import people
from proving.callbacks import bills, call_back, called_back, named_session
from proving.faults import Fault
from proving.host import LINKS
from proving.payers import PAYERS, Checkout, in_time, pays
from proving.qpay import Bill
from proving.uses import Use
from proving.world import Gone, World
from tulbur.core.orders import Item
from tulbur.core.schedule import MOST_HINTS
from tulbur.core.session import SECOND, Reason, Session
from tulbur.errors import ProviderError, TulburError
from tulbur.payments import OpenRequest, Payments

Act: TypeAlias = Callable[[World, Checkout], Awaitable[None]]

MOST_OPENINGS: Final = 8
CARDS: Final = 0.4
"""Share of the payments that are made by card, which QPay can give back."""


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
    method = "CARD" if w.rng.random() < CARDS else "P2P"
    payment_id = w.qpay.pay(bill.id, amount, currency=currency, method=method, crossing=bill.cancelled)
    w.tell(f"{c.session_id} {payment_id} {amount} {currency} on {bill.id}")
    from_ = w.clock()
    if w.faults.fires(Fault.QPAY_LATE_SIGHT):
        from_ += int(w.rng.choice((5, 60, 3600)) * w.rng.random() * SECOND)
    w.sight.from_[payment_id] = from_
    refund = _refund(w, payment_id) if w.faults.fires(Fault.QPAY_REFUNDED) else None
    await asyncio.gather(called_back(w, c, payment_id, surely=surely), *([refund] if refund else []))


async def _refund(w: World, payment_id: str) -> None:
    await asyncio.sleep(w.rng.uniform(0, 3600))
    await people.refunds_at_portal(w, payment_id)


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


async def loses(w: World, c: Checkout) -> None:
    """Money on an invoice of ours whose session is not stored, as after a restore; QPay calls."""
    if w.faults.fires(Fault.QPAY_ORPHAN):
        lost = w.new_id()
        bill = w.qpay.bill(LINKS.sender_invoice_no(lost), c.amount, LINKS.callback_url(lost))
        payment_id = w.qpay.pay(bill.id, c.amount)
        if w.rng.random() < 0.7:
            await _call_back_lost(w, lost, payment_id)


async def _call_back_lost(w: World, lost: str, payment_id: str) -> None:
    outcome = await people.insists(w, lambda payments: payments.callback(lost, payment_id))
    if isinstance(outcome, str):
        w.oracle.answered(lost, payment_id)


async def strays(w: World, c: Checkout) -> None:
    """Money on an invoice that another system made under the same login; perhaps a callback of ours names it."""
    if w.faults.fires(Fault.QPAY_FOREIGN):
        bill = w.qpay.bill(f"SHOP-{w.new_id()}", c.amount, "")
        payment_id = w.qpay.pay(bill.id, c.amount)
        if w.rng.random() < 0.3:
            await call_back(w, str(c.session_id), payment_id)


def _person(does: Callable[[World, str], Awaitable[None]]) -> Act:
    async def act(w: World, c: Checkout) -> None:
        await does(w, str(c.session_id))

    return act


def _operator(does: Callable[[World], Awaitable[object]]) -> Act:
    async def act(w: World, _c: Checkout) -> None:
        await does(w)

    return act


ACTS: Final[tuple[tuple[float, int, Act, Use | None], ...]] = (
    (0.5, 3, looks, None),
    (0.4, 2, reads, None),
    (0.2, 1, reopens, None),
    (0.2, 2, cancels, None),
    (0.1, 1, examines, None),
    (0.6, 2, forges, None),
    (0.6, 1, confuses, None),
    (1.0, 1, floods, None),
    (0.5, 1, loses, None),
    (0.5, 1, strays, None),
    (0.9, 3, _person(people.gives_back), Use.REFUNDS),
    (0.8, 2, _person(people.decides), Use.REVIEWS),
    (0.7, 2, _person(people.assigns), Use.STRAYS),
    (0.3, 1, _operator(people.sweeps), Use.SWEEPS),
    (0.4, 1, _operator(people.proves), Use.BOOKS),
    (0.5, 2, _operator(people.cleans), Use.CLEANING),
    (0.2, 1, _operator(lambda w: people.replays(w, parked_only=w.rng.random() < 0.5)), Use.WEBHOOK),
)
"""What else happens to a checkout: how often at all, how many times at most, the act, and what it is part of."""

AFTERWARDS: Final = frozenset({Use.REFUNDS, Use.REVIEWS, Use.STRAYS, Use.SWEEPS, Use.BOOKS, Use.CLEANING})
"""What mostly happens when the payer is done."""


async def story(w: World, c: Checkout) -> None:
    """One checkout from its opening to the last thing anybody does with it."""
    await asyncio.sleep(c.opened_at)
    await opens(w, c)
    if c.session_id is None:
        c.session_id = named_session(w, c)
    if c.session_id is None:
        return
    others: list[Coroutine[Any, Any, None]] = [
        _at(w, c, act, use)
        for odds, most, act, use in ACTS
        if (use is None or use in w.uses) and w.rng.random() < odds
        for _ in range(w.rng.randrange(1, most + 1))
    ]
    await asyncio.gather(payer(w, c), unseen(w, c), *others)


async def _at(w: World, c: Checkout, act: Act, use: Use | None) -> None:
    seconds = c.seconds * 1.1
    if use in AFTERWARDS and w.rng.random() < 0.7:
        seconds += 4 * people.HOUR
    await asyncio.sleep(w.rng.uniform(0, seconds))
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
