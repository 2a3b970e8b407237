"""Sessions of the old shop: opened there, followed, made ours by a callback or taken over; and what must come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from proving import people
from proving.acts import checkout
from proving.callbacks import called_back
from proving.ending import is_contested
from proving.faults import Fault
from proving.old_redis import OldRedis
from proving.oracle import MOST_SKEW_SECONDS
from proving.payers import Checkout, in_time
from proving.qpay import Bill
from proving.uses import Deed
from proving.world import World
from tulbur.core.custody import Custody
from tulbur.core.moving import OldSession, OldStatus
from tulbur.core.session import SECOND, Session, Status
from tulbur.payments import Payments
from tulbur.payments.moving import GONE_SECONDS, Left, TakeOver, import_session, take_over, take_over_gone


def old_checkouts(w: World) -> list[Checkout]:
    """Checkouts that the old shop opens while ours are under way."""
    if w.old_redis is None:
        return []
    return [_old(checkout(w, 100 + number), number) for number in range(w.rng.choice((1, 1, 2)))]


def _old(c: Checkout, number: int) -> Checkout:
    request = replace(c.request, amount=sum(item.total for item in c.request.items), idempotency_key=None)
    return Checkout(request, c.opened_at, session_id=f"old-{number}")


async def story(w: World, c: Checkout) -> None:
    """The old shop opens it, somebody pays or not, QPay calls one of the two, and an operator may take it over."""
    redis, session_id = _redis(w), str(c.session_id)
    await asyncio.sleep(c.opened_at)
    amount = c.amount // 2 if w.faults.fires(Fault.OLD_AMOUNT) else c.amount
    bill = w.qpay.bill(session_id, amount, "http://old")
    redis.keys[session_id] = _key(w, c, "" if w.faults.fires(Fault.OLD_NAMELESS) else bill.id)
    if w.faults.fires(Fault.OLD_FORGOTTEN):
        w.loop.call_later(w.rng.uniform(0, c.seconds), redis.keys.pop, session_id, None)
    moves = not redis.hears and w.rng.random() < 0.4
    await asyncio.gather(_payer(w, c, bill), *([_moves(w, c)] if moves else []))


def _redis(w: World) -> OldRedis:
    assert w.old_redis is not None
    return w.old_redis


def _key(w: World, c: Checkout, invoice_id: str) -> OldSession:
    lines = [
        {"productId": i.product_id, "shopId": i.shop_id, "quantity": i.quantity, "sale_price": i.unit_price // 100}
        for i in c.request.items
    ]
    return OldSession(
        id=str(c.session_id),
        user_id=c.request.user_id,
        amount=c.amount,
        currency="MNT",
        payload={"userId": c.request.user_id, "cart": lines, "sellers": [], "totalAmount": c.amount // 100},
        status=OldStatus.PENDING,
        invoice_id=invoice_id,
        created_at=w.clock(),
        updated_at=w.clock(),
        expires_at=w.clock() + c.seconds * SECOND,
        source="redis",
        checked=False,
    )


async def _payer(w: World, c: Checkout, bill: Bill) -> None:
    redis, session_id, kind = _redis(w), str(c.session_id), w.rng.random()
    if kind < 0.15:
        return
    await asyncio.sleep(in_time(w, c) if kind < 0.8 else c.seconds + w.rng.uniform(0, 7200))
    if bill.cancelled:
        return
    payment_id = w.qpay.pay(bill.id, bill.request.amount)
    w.sight.from_[payment_id] = w.clock()
    w.tell(f"{session_id} {payment_id} {bill.request.amount} on {bill.id}, of the old shop's")
    if not redis.hears:
        await called_back(w, c, payment_id, surely=False)
        return
    await asyncio.sleep(w.rng.uniform(0, 30))
    key = redis.read(session_id)
    if key is not None and not w.faults.fires(Fault.CALLBACK_LOST):
        w.tell(f"{session_id} is ordered by the old shop")
        redis.orders[session_id] = {item.shop_id: f"there-{item.shop_id}" for item in c.request.items}
        redis.keys[session_id] = replace(key, status=OldStatus.PROCESSED, payment_id=payment_id)


# --- moving in -------------------------------------------------------------------------------------------------------


async def _moves(w: World, c: Checkout) -> None:
    await asyncio.sleep(w.rng.uniform(0, c.seconds * 1.5))
    await takes_over(w, str(c.session_id))


async def takes_over(w: World, session_id: str) -> None:
    """An operator runs the import with `--take-over`: the old shop makes no order any more."""
    outcome = await people.insists(w, lambda payments: _taken_over(w, payments, session_id))
    w.tell(f"{session_id} take over: {outcome!r}")
    if outcome is TakeOver.TAKEN_OVER:
        w.oracle.did(Deed.TAKEN_OVER)
    elif outcome == "":
        w.oracle.did(Deed.TAKEN_OVER_GONE)


async def _taken_over(w: World, payments: Payments, session_id: str) -> TakeOver | str:
    desk = payments.desk
    assert desk.old_shop is not None
    key, made = await desk.old_shop.read(session_id), _redis(w).orders.get(session_id, {})
    if key is None:
        left = Left(orders=made, processed_at=w.clock() if made else None)
        return await take_over_gone(desk, session_id, left, look_at=desk.clock(), cache_seconds=0)
    row = replace(key, orders=made, checked=True)
    await import_session(desk, row)
    return await take_over(desk, row, look_at=desk.clock(), cache_seconds=0)


async def move_in(w: World, checkouts: Sequence[Checkout], rest: Callable[[], Awaitable[None]]) -> None:
    """The old shop is stopped: everything that is followed is taken over, and a person decides what does not add up.

    Then he sweeps, as the guide says: money that came after its deadline, and whose callback went there or was lost, is
    found in no other way.
    """
    ends = max((session.expires_at for c in checkouts if (session := _stored(w, c))), default=0)
    await asyncio.sleep(max((ends - w.clock()) / SECOND, 0) + MOST_SKEW_SECONDS + GONE_SECONDS + 1)
    for c in checkouts:
        session = _stored(w, c)
        if session is None or session.custody is Custody.OURS:
            continue
        await takes_over(w, session.id)
        if _is_for_a_person(w, session.id):
            await people.review(w, session.id, "accept")
    await rest()
    await people.sweeps(w)
    await rest()


def _is_for_a_person(w: World, session_id: str) -> bool:
    claim = w.oracle.stored(session_id).claim
    return claim is not None and bool(claim.review)


def _stored(w: World, c: Checkout) -> Session | None:
    return w.oracle.stored(str(c.session_id)) if c.session_id in w.data.sessions else None


# --- what must have come of it ---------------------------------------------------------------------------------------


def judge_promised(w: World, c: Checkout) -> None:
    """Money whose callback was answered SUCCESS is known, or named where a person sees it, before anybody helps."""
    session = _stored(w, c)
    truth = _truth(w, c)
    for session_id, payment_id in w.oracle.promised:
        if session_id != c.session_id or payment_id not in truth:
            continue
        row = w.data.payments.get(payment_id)
        hinted = session is not None and any(hint.payment_id == payment_id for hint in session.hints)
        assert row is not None or hinted, "law 5: SUCCESS was promised, and the money is not known"
        if session is None or is_contested(w, session) or row is not None:
            continue
        named = bool(session.exceptions) or session.custody is Custody.FOLLOWED
        assert named, "law 2: money that was named is known, or has a name"


def judge_moved(w: World, c: Checkout) -> None:
    """Everything is ours, and what was paid in full is ordered once, here or there."""
    session = _stored(w, c)
    if session is None or is_contested(w, session):
        return
    assert session.custody is Custody.OURS, "law 2: what is followed is taken over, or a person has let it in"
    truth = _truth(w, c)
    if session.id in _redis(w).orders:
        assert session.status is Status.PAID, "law 2: what the old shop ordered is ordered"
        return
    if not session.asked_about:
        return  # the old shop lost its invoice, and no callback named a payment
    known = {p.id: p.amount for p in session.payments if p.received}
    assert known == truth, f"law 9: every tugrik is accounted for: QPay has {truth}, we know {known}"
    late = session.status is not Status.PAID and any(p.held for p in session.payments)
    if sum(truth.values()) >= session.amount:
        assert session.status is Status.PAID or (w.rules.review_late and late), "law 2: paid means ordered"


def _truth(w: World, c: Checkout) -> dict[str, int]:
    own = (bill for bill in w.qpay.bills.values() if bill.request.sender_invoice_no == c.session_id)
    return {p.id: p.amount for bill in own for p in bill.payments}
