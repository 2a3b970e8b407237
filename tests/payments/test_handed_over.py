"""A session in the old shop's hands, on every store: whatever QPay says and whoever asks, no order is made here."""

from __future__ import annotations

import pytest
from tests.payments.world import World

from tulbur.core.custody import Custody
from tulbur.core.handing_over import handed_over, taken_back
from tulbur.core.session import ExceptionName, Reason, Session, Status
from tulbur.errors import Conflict
from tulbur.payments.handing_over import pending
from tulbur.ports import SessionQuery

pytestmark = pytest.mark.anyio


async def away(w: World) -> Session:
    session = await w.open(expires_in=600)
    return await w.payments.desk.step(session.id, lambda s: handed_over(s, w.clock()))


async def everybody_asks(w: World, session: Session, payment_id: str) -> None:
    """Every way in which a session settles."""
    await w.payments.callback(session.id, payment_id)
    await w.payments.callback(session.id, "")
    for reason in (Reason.PAYER, Reason.OPERATOR, Reason.DEADLINE):
        w.clock.advance(30)
        await w.payments.check(session.id, reason)
    for _ in range(6):
        w.clock.advance(700)
        await w.worker.once()
    with pytest.raises(Conflict):
        await w.payments.cancel(session.id)


async def test_no_order_is_made_and_the_money_is_held_and_named(w: World) -> None:
    session = await away(w)
    await everybody_asks(w, session, await w.pay(session))
    stored = await w.stored(session.id)
    assert (stored.status, stored.orders, stored.sum("held")) == (Status.PENDING, (), session.amount)
    assert stored.exceptions == {ExceptionName.HANDED_OVER}
    assert stored.next_check_at is None, "nothing is asked without an end"
    seen = await w.store.find(SessionQuery(exception=ExceptionName.HANDED_OVER))
    assert [found.id for found in seen] == [session.id], "a person sees it"
    stats = await w.store.stats(w.clock())
    assert (stats.orders, stats.by_exception.get(ExceptionName.HANDED_OVER)) == (0, 1)


async def test_unpaid_it_never_ends_by_itself_and_comes_back_to_its_end(w: World) -> None:
    session = await away(w)
    await w.payments.callback(session.id, "")
    for _ in range(8):
        w.clock.advance(700)
        await w.worker.once()
    stored = await w.stored(session.id)
    assert (stored.status, stored.custody, stored.next_check_at) == (Status.PENDING, Custody.HANDED_OVER, None)
    assert [found.id async for page in pending(w.payments.desk) for found in page] == [session.id]
    await w.payments.desk.step(session.id, lambda s: taken_back(s, w.clock(), look_at=w.clock()))
    await w.worker.once()
    assert (await w.stored(session.id)).status is Status.EXPIRED


async def test_an_answer_under_way_when_it_is_handed_over_makes_no_order(w: World) -> None:
    session = await w.open()
    await w.pay(session)

    async def hand_over_beneath() -> None:
        # The question was claimed before; its claim is over, its answer is not there yet.
        stored = await w.stored(session.id)
        w.clock.advance(30)
        after = handed_over(stored, w.clock())
        assert after.custody is Custody.HANDED_OVER
        await w.store.commit(stored, after)

    check = w.qpay.check

    async def checked(invoice_id: str) -> object:
        answer = await check(invoice_id)
        await hand_over_beneath()
        return answer

    w.qpay.check = checked  # type: ignore[assignment, method-assign]
    await w.payments.check(session.id, Reason.OPERATOR)
    stored = await w.stored(session.id)
    assert (stored.orders, stored.exceptions) == ((), {ExceptionName.HANDED_OVER})
    assert stored.sum("held") == session.amount


async def test_back_again_it_settles_once(w: World) -> None:
    session = await away(w)
    payment_id = await w.pay(session)
    await everybody_asks(w, session, payment_id)
    await w.payments.desk.step(session.id, lambda s: taken_back(s, w.clock(), look_at=w.clock()))
    await w.worker.once()
    await w.payments.callback(session.id, payment_id)
    stored = await w.stored(session.id)
    assert (stored.status, len(stored.orders), stored.sum("ordered")) == (Status.PAID, 2, session.amount)
    assert [(await w.store.order(order.id) or ("",))[0] for order in stored.orders] == [session.id] * 2
    types = [event.type for event in await w.store.history(session.id, 99)]
    assert (types.count("session.paid"), types.count("order.created")) == (1, 2)
