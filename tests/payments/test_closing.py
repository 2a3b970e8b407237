from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.payments.world import World

from tulbur.core.session import ExceptionName, InvoiceState, Reason, Session, Status
from tulbur.errors import AlreadyPaid, Conflict, NotFound, ProviderUnavailable
from tulbur.payments import Payments

pytestmark = pytest.mark.anyio


async def test_cancel_cancels_the_invoice_at_qpay_too(w: World) -> None:
    session = await w.open()
    cancelled = await w.payments.cancel(session.id)
    assert cancelled.status is Status.CANCELLED
    assert cancelled.attempts[0].state is InvoiceState.CANCELLED
    assert w.invoices()[0].status() == "CANCELED"
    assert await w.payments.cancel(session.id) == cancelled


async def test_cancel_of_a_paid_session_is_refused_and_makes_the_order(w: World) -> None:
    session = await w.open()
    await w.pay(session)
    with pytest.raises(AlreadyPaid):
        await w.payments.cancel(session.id)
    assert (await w.stored(session.id)).orders


async def test_cancel_without_qpay_changes_nothing(w: World) -> None:
    session = await w.open()
    await w.faults(reply={"invoice_cancel": {"status": 502, "body": "<html>"}})
    with pytest.raises(ProviderUnavailable):
        await w.payments.cancel(session.id)
    assert (await w.stored(session.id)).status is Status.PENDING
    await w.faults(reply={"payment_check": {"status": 502, "body": "<html>"}})
    with pytest.raises(ProviderUnavailable):
        await w.payments.cancel(session.id)
    assert (await w.stored(session.id)).status is Status.PENDING


async def test_cancel_of_nothing_is_not_found(w: World) -> None:
    with pytest.raises(NotFound):
        await w.payments.cancel("nobody")


async def test_a_cancel_whose_answer_was_lost_is_repeated_safely(w: World) -> None:
    session = await w.open()
    await w.faults(reply={"invoice_cancel": {"lose_after_commit": True, "times": 1}})
    with pytest.raises(ProviderUnavailable):
        await w.payments.cancel(session.id)
    assert (await w.payments.cancel(session.id)).status is Status.CANCELLED


async def test_money_held_at_cancel_is_due_back(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session, "20000")
    await w.payments.callback(session.id, payment_id)
    cancelled = await w.payments.cancel(session.id)
    assert cancelled.status is Status.CANCELLED
    assert cancelled.exceptions == {ExceptionName.UNDERPAID}
    assert [(p.held, p.refund_due) for p in cancelled.payments] == [(0, 2_000_000)]


async def test_money_qpay_knows_of_but_does_not_show_stops_the_cancel(w: World) -> None:
    session = await w.open()
    await w.faults(callback={"before_visible_seconds": 60})
    await w.pay(session)
    with pytest.raises(Conflict, match="QPay says this invoice is paid"):
        await w.payments.cancel(session.id)
    w.clock.advance(60)
    await w.worker.once()
    assert (await w.stored(session.id)).status is Status.PAID


async def test_the_deadline_asks_once_and_expires(w: World) -> None:
    session = await w.open(expires_in=60)
    w.clock.advance(59)
    await w.worker.once()
    assert not w.heard.asks
    w.clock.advance(2)
    await w.worker.once()
    await w.worker.once()
    assert w.heard.asks == [Reason.DEADLINE]
    assert (await w.stored(session.id)).status is Status.EXPIRED


async def test_the_deadline_finds_money_whose_callback_was_lost(w: World) -> None:
    session = await w.open(expires_in=60)
    await w.pay(session)
    w.clock.advance(61)
    await w.worker.once()
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert stored.exceptions == frozenset()


async def test_a_silent_qpay_does_not_expire_a_session(w: World) -> None:
    session = await w.open(expires_in=60)
    await w.faults(reply={"payment_check": {"status": 500, "body": '{"error":"SYSTEM_BUSY"}'}})
    w.clock.advance(61)
    for _ in range(30):
        await w.worker.once()
        w.clock.advance(60)
    assert (await w.stored(session.id)).status is Status.PENDING
    await w.faults()
    for _ in range(30):
        await w.worker.once()
        w.clock.advance(60)
    assert (await w.stored(session.id)).status is Status.EXPIRED


async def test_a_session_without_an_invoice_expires_without_a_question_to_qpay(w: World) -> None:
    await w.faults(reply={"invoice_create": {"status": 502, "body": "", "times": 1}})
    with pytest.raises(ProviderUnavailable) as down:
        await w.open(expires_in=60)
    w.clock.advance(61)
    await w.worker.once()
    assert (await w.stored(str(down.value.session_id))).status is Status.EXPIRED
    assert await w.requests("/v2/payment/check") == 0


async def test_the_payer_asks_at_most_once_in_ten_seconds(w: World) -> None:
    session = await w.open()
    for _ in range(5):
        await w.payments.check(session.id)
    assert w.heard.asks == [Reason.PAYER]
    w.clock.advance(10)
    await w.pay(session)
    assert (await w.payments.check(session.id)).status is Status.PAID


async def test_after_cancelling_money_still_makes_the_order_and_is_named(w: World) -> None:
    session = await w.open()
    cancelled = await w.payments.cancel(session.id)
    invoice = w.invoices()[0]
    invoice.cancelled = False  # QPay lost the cancellation
    payment_id = await w.pay(cancelled)
    assert await w.payments.callback(session.id, payment_id) == "paid"
    assert (await w.stored(session.id)).exceptions == {ExceptionName.AFTER_CANCEL}


async def test_a_refund_seen_at_qpay_is_recorded_and_nothing_goes_back(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session, method="CARD")
    await w.payments.callback(session.id, payment_id)
    await w.refund(payment_id)
    await w.payments.check(session.id, Reason.OPERATOR)
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert stored.exceptions == {ExceptionName.REFUNDED}
    assert stored.payments[0].refunded == 5_000_000
    assert len(stored.orders) == 2


async def test_an_outage_does_not_use_up_the_days_questions(w: World) -> None:
    session = await w.open(expires_in=60)
    await w.pay(session)
    await w.faults(reply={"payment_check": {"status": 500, "body": '{"error":"SYSTEM_BUSY"}'}})
    for _ in range(60):
        w.clock.advance(120)
        await w.worker.once()
    await w.faults()
    for _ in range(10):
        w.clock.advance(60)
        await w.worker.once()
    assert (await w.stored(session.id)).status is Status.PAID


async def test_a_week_without_an_answer_is_named_and_ends(w: World) -> None:
    session = await w.open(expires_in=60)
    body = '{"error":"PERMISSION_DENIED","message":"PERMISSION_DENIED"}'
    await w.faults(reply={"payment_check": {"status": 401, "body": body}})
    for _ in range(9 * 24):
        w.clock.advance(3600)
        await w.worker.once()
    stored = await w.stored(session.id)
    assert stored.status is Status.EXPIRED
    assert stored.exceptions == {ExceptionName.UNCONFIRMED}
    assert stored.next_check_at is None
    await w.faults()
    payment_id = await w.pay(session)
    await w.payments.callback(session.id, payment_id)
    stored = await w.stored(session.id)
    assert stored.status is Status.PAID
    assert stored.exceptions == {ExceptionName.LATE}


async def test_what_expired_leaves_the_cache_and_a_late_callback_comes_from_the_database(w: World) -> None:
    session = await w.open(expires_in=10)
    w.clock.advance(11)
    await w.worker.once()
    assert (await w.stored(session.id)).status is Status.EXPIRED
    assert await w.cache.get(session.id) is None
    assert await w.payments.callback(session.id, await w.pay(session)) == "paid"
    assert w.heard.loads == ["database"]


class ExpiresMeanwhile:
    """A store; between a read of a session and its answer, the deadline's look is taken."""

    def __init__(self, w: World) -> None:
        self._w = w

    def __getattr__(self, name: str) -> Any:
        return getattr(self._w.store, name)

    async def get(self, session_id: str) -> Session | None:
        found = await self._w.store.get(session_id)
        await at_its_deadline(self._w, session_id)
        return found


async def at_its_deadline(w: World, session_id: str) -> None:
    w.clock.advance(1801 + 61)
    await w.payments.look(await w.stored(session_id))
    assert (await w.stored(session_id)).status is Status.EXPIRED


async def test_a_read_that_overlaps_the_expiry_is_not_believed_by_the_next_ones(w: World) -> None:
    session = await w.open()
    await w.cache.drop(session.id)
    slow = Payments(replace(w.payments.desk, store=ExpiresMeanwhile(w)))
    assert (await slow.get(session.id)).status is Status.PENDING, "it was, when the database was read"
    kept = await w.cache.get(session.id)
    assert kept is not None
    assert kept.status is Status.PENDING, "and so it was kept, for what had expired had left the cache"
    assert (await w.payments.get(session.id)).status is Status.EXPIRED
