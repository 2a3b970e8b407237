from __future__ import annotations

import asyncio

import pytest
from tests.payments.world import World

from proving.world import START
from tulbur.core.session import SECOND, ExceptionName, InvoiceState, Reason, Status
from tulbur.errors import ProviderUnavailable

pytestmark = pytest.mark.anyio


async def test_a_paid_callback_makes_one_order_per_shop(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session)
    assert await w.payments.callback(session.id, payment_id) == "paid"
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert [(o.shop_id, o.total) for o in stored.orders] == [("s1", 3_000_000), ("s2", 2_000_000)]
    assert stored.exceptions == frozenset()
    assert stored.payments[0].ordered == 5_000_000


async def test_a_repeat_is_answered_from_the_cache_without_a_question(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session)
    await w.payments.callback(session.id, payment_id)
    before, asked = await w.stored(session.id), len(w.heard.asks)
    assert await w.payments.callback(session.id, payment_id) == "repeated"
    assert await w.stored(session.id) == before
    assert len(w.heard.asks) == asked
    assert w.heard.loads[-1] == "cache"


@pytest.mark.parametrize("times", [64])
async def test_many_at_once_make_one_order_set_and_one_question(w: World, times: int) -> None:
    session = await w.open()
    payment_id = await w.pay(session)
    results = await asyncio.gather(*(w.payments.callback(session.id, payment_id) for _ in range(times)))
    assert set(results) <= {"paid", "waiting", "repeated"}
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert len(stored.orders) == 2
    assert w.heard.asks == [Reason.CALLBACK]


async def test_callback_and_worker_at_once_make_one_order_set(w: World) -> None:
    session = await w.open(expires_in=60)
    payment_id = await w.pay(session)
    w.clock.advance(61)
    await asyncio.gather(w.payments.callback(session.id, payment_id), w.worker.once(), w.worker.once())
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert len([e for e in await w.store.history(session.id, 200) if e.type == "session.paid"]) == 1


async def test_without_its_cache_entry_the_database_has_it(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session)
    await w.cache.drop(session.id)
    assert await w.payments.callback(session.id, payment_id) == "paid"
    assert w.heard.loads == ["database"]


async def test_a_callback_before_the_invoice_id_is_known_still_makes_the_order(w: World) -> None:
    await w.faults(reply={"invoice_create": {"lose_after_commit": True, "times": 1}})
    with pytest.raises(ProviderUnavailable) as lost:
        await w.open(idempotency_key="k")
    session_id = str(lost.value.session_id)
    payment_id = await w.pay_invoice(w.invoices()[0].id)
    assert await w.payments.callback(session_id, payment_id) == "paid"
    stored = await w.stored(session_id)
    assert stored.status is Status.PAID
    assert stored.attempts[0].id == w.invoices()[0].id


async def test_a_payment_that_shows_later_is_found_by_the_ladder(w: World) -> None:
    session = await w.open()
    await w.faults(callback={"before_visible_seconds": 20})
    payment_id = await w.pay(session)
    assert await w.payments.callback(session.id, payment_id) == "waiting"
    assert (await w.stored(session.id)).status is Status.PENDING
    for seconds in (3, 10, 30):
        w.clock.advance(seconds)
        await w.worker.once()
    assert (await w.stored(session.id)).status is Status.PAID
    assert w.heard.asks == [Reason.CALLBACK] * 4


async def test_a_payment_qpay_never_shows_ends_unconfirmed(w: World) -> None:
    session = await w.open(expires_in=86_000)
    assert await w.payments.callback(session.id, "999999999999999") == "waiting"
    for seconds in (3, 10, 30, 120, 600, 3600):
        w.clock.advance(seconds)
        await w.worker.once()
    stored = await w.stored(session.id)
    assert stored.status is Status.PENDING
    assert stored.exceptions == {ExceptionName.UNCONFIRMED}
    assert len(w.heard.asks) == 6


async def test_a_payment_of_another_session_pays_nothing_here(w: World) -> None:
    mine, theirs = await w.open(), await w.open()
    payment_id = await w.pay(theirs)
    assert await w.payments.callback(mine.id, payment_id) == "waiting"
    assert (await w.stored(mine.id)).payments == ()
    assert await w.payments.callback(theirs.id, payment_id) == "paid"
    asked = len(w.heard.asks)
    assert await w.payments.callback(mine.id, payment_id) == "waiting"
    assert len(w.heard.asks) == asked, "what is foreign is not asked about again"


async def test_silence_at_qpay_keeps_the_hint_and_settles_when_it_is_back(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session)
    await w.faults(reply={"payment_check": {"status": 500, "body": "x"}, "payment_get": {"status": 500, "body": "x"}})
    assert await w.payments.callback(session.id, payment_id) == "waiting"
    assert (await w.stored(session.id)).status is Status.PENDING
    await w.faults()
    w.clock.advance(25)
    await w.worker.once()
    assert (await w.stored(session.id)).status is Status.PAID


async def test_an_unknown_session_is_kept_as_unmatched(w: World) -> None:
    assert await w.payments.callback("nobody", "493000000000001") == "unmatched"
    kept = await w.store.unmatched(10)
    assert [(u.payment_id, u.hinted_session_id) for u in kept] == [("493000000000001", "nobody")]
    assert w.heard.lost == [("nobody", "493000000000001")]


async def test_made_up_payment_ids_do_not_keep_the_real_one_from_being_found(w: World) -> None:
    session = await w.open(expires_in=86_000)
    for number in range(60):
        await w.payments.callback(session.id, f"9{number:014d}")
    payment_id = await w.pay(session)
    assert await w.payments.callback(session.id, payment_id) == "paid"
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert len(stored.hints) <= 51
    assert payment_id not in {kept.payment_id for kept in await w.store.unmatched(200)}


async def test_late_money_still_makes_the_order_and_is_named(w: World) -> None:
    session = await w.open(expires_in=60)
    w.clock.advance(61)
    await w.worker.once()
    assert (await w.stored(session.id)).status is Status.EXPIRED
    w.clock.advance(3600)
    payment_id = await w.pay(session)
    assert await w.payments.callback(session.id, payment_id) == "paid"
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert stored.exceptions == {ExceptionName.LATE}
    assert stored.paid_at is not None
    assert stored.paid_at > START + 3600 * SECOND


async def test_money_in_time_whose_callback_is_late_is_not_late(w: World) -> None:
    session = await w.open(expires_in=60)
    payment_id = await w.pay(session)
    w.clock.advance(7200)
    assert await w.payments.callback(session.id, payment_id) == "paid"
    assert (await w.stored(session.id)).exceptions == frozenset()


async def test_paid_twice_makes_the_orders_once_and_names_the_rest(w: World) -> None:
    session = await w.open()
    first, second = await w.pay(session), await w.pay(session)
    await w.payments.callback(session.id, first)
    await w.payments.callback(session.id, second)
    stored = await w.stored(session.id)
    assert len(stored.orders) == 2
    assert stored.exceptions == {ExceptionName.PAID_TWICE}
    assert sorted((p.ordered, p.refund_due) for p in stored.payments) == [(0, 5_000_000), (5_000_000, 0)]


async def test_in_parts_is_ordered_when_the_parts_are_complete(w: World) -> None:
    session = await w.open()
    first = await w.pay(session, "20000")
    await w.payments.callback(session.id, first)
    stored = await w.stored(session.id)
    assert stored.status is Status.PENDING
    assert stored.exceptions == {ExceptionName.UNDERPAID}
    assert stored.payments[0].held == 2_000_000
    second = await w.pay(session, "30000")
    await w.payments.callback(session.id, second)
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert stored.exceptions == frozenset()
    assert all(attempt.state is InvoiceState.PAID for attempt in stored.attempts)


async def test_repeats_while_qpay_shows_nothing_do_not_ask_again_and_again(w: World) -> None:
    session = await w.open()
    await w.faults(callback={"before_visible_seconds": 600})
    payment_id = await w.pay(session)
    for _ in range(20):
        await w.payments.callback(session.id, payment_id)
    assert len(w.heard.asks) == 1
