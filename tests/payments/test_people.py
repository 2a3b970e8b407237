"""People decide about money, against a simulated QPay on a real socket: refunds, reviews, late money under review."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.payments.test_kills import table
from tests.payments.world import Clock, World, world

from proving.killing import Fault, Killer, Shop, SmallQPay, ended
from tulbur.core.rules import Rules
from tulbur.core.session import ExceptionName, InvoiceState, Reason, Session, Status
from tulbur.core.settling import SeenPayment
from tulbur.errors import Conflict, ProviderUnavailable
from tulbur.payments import refunding
from tulbur.ports import Cancelling, InvoiceRequest
from tulbur.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

BY = "bold"
REVIEW = Rules(review_late=True)
CANCEL = Rules(cancel_expired=True)


@pytest.fixture
async def w() -> AsyncIterator[World]:
    clock = Clock()
    async with world(MemoryStore(clock), clock) as made:
        yield made


async def paid(w: World, method: str = "P2P") -> tuple[Session, str]:
    session = await w.open()
    payment_id = await w.pay(session, method=method)
    await w.payments.callback(session.id, payment_id)
    return await w.stored(session.id), payment_id


async def refunded(w: World, session: Session, payment_id: str, **more: str) -> Session:
    return await refunding.refund(w.payments.desk, session.id, payment_id, by=BY, **more)


async def rested(w: World, session: Session, rounds: int = 12) -> Session:
    for _ in range(rounds):
        due = (await w.stored(session.id)).next_check_at
        if due is None:
            break
        w.clock.now = max(w.clock.now, due) + 61_000_000
        await w.worker.once()
        await w.payments.stop()
    return await w.stored(session.id)


def names(session: Session) -> set[ExceptionName]:
    return set(session.exceptions)


# --- refunds


async def test_a_card_payment_goes_back_through_qpay(w: World) -> None:
    session, payment_id = await paid(w, "CARD")
    after = await refunded(w, session, payment_id)
    assert (after.status, after.sum("refunded"), after.sum("ordered")) == (Status.PAID, 5_000_000, 0)
    assert names(after) == {ExceptionName.REFUNDED}
    assert after.orders == session.orders, "a refund is never a state going back"
    assert after.next_check_at is None
    assert await w.requests(f"/payment/refund/{payment_id}") == 1


async def test_a_bank_payment_is_a_task_for_a_person(w: World) -> None:
    session, payment_id = await paid(w)
    after = await refunded(w, session, payment_id)
    assert await w.requests(f"/payment/refund/{payment_id}") == 0
    assert (after.sum("refunded"), after.next_check_at) == (0, None)
    after = await refunded(w, session, payment_id, reference="KHAN-17")
    assert after.sum("refunded") == 5_000_000
    events = [event.type for event in await w.store.history(session.id, 200)]
    assert events[-2:] == ["refund.requested", "refund.done"]


async def test_what_qpay_did_with_a_lost_answer_the_payment_tells(w: World) -> None:
    session, payment_id = await paid(w, "CARD")
    await w.faults(reply={"payment_refund": {"status": 500, "lose_after_commit": True}})
    with pytest.raises(ProviderUnavailable):
        await refunded(w, session, payment_id)
    with pytest.raises(Conflict, match="QPay was asked"):
        await refunded(w, session, payment_id)
    after = await rested(w, session)
    assert after.sum("refunded") == 5_000_000
    assert await w.requests(f"/payment/refund/{payment_id}") == 1, "never repeated by itself"


async def test_a_refund_that_never_reached_qpay_is_named_and_sent_again_by_a_person(w: World) -> None:
    session, payment_id = await paid(w, "CARD")
    await w.faults(reply={"payment_refund": {"status": 500}})
    with pytest.raises(ProviderUnavailable):
        await refunded(w, session, payment_id)
    await w.faults()
    after = await rested(w, session)
    assert ExceptionName.REFUND_UNCONFIRMED in after.exceptions
    after = await refunded(w, session, payment_id)
    assert (after.sum("refunded"), names(after)) == (5_000_000, {ExceptionName.REFUNDED})


async def test_what_qpay_refuses_is_no_persons_task_while_nobody_knows_why(w: World) -> None:
    """Given back at QPay's own page; QPay refuses with a key of its own, and then shows nothing for a while."""
    session, payment_id = await paid(w, "CARD")
    await w.refund(payment_id)
    silent = {"status": 500}
    refusal = {"status": 400, "body": {"error": "TRANSACTION_CLOSED", "message": "TRANSACTION_CLOSED"}}
    await w.faults(reply={"payment_refund": refusal, "payment_get": silent, "payment_check": silent})
    with pytest.raises(ProviderUnavailable):
        await refunded(w, session, payment_id)
    (payment,) = (await w.stored(session.id)).payments
    assert payment.refund is not None
    assert payment.refund.way == "qpay", "nobody is asked to pay it back by hand"
    await w.faults()
    after = await rested(w, session)
    assert (after.sum("refunded"), [r.state for r in after.payments[0].refunds]) == (5_000_000, ["done"])


async def test_a_refund_of_a_payment_that_qpay_does_not_tell_of_comes_to_an_end(w: World) -> None:
    session, payment_id = await paid(w, "CARD")
    refusal = {"status": 400, "body": {"error": "PAYMENT_NOT_PAID", "message": "PAYMENT_NOT_PAID"}}
    await w.faults(reply={"payment_get": refusal, "payment_refund": {"status": 500}})
    with pytest.raises(ProviderUnavailable):
        await refunded(w, session, payment_id)
    after = await rested(w, session)
    assert (after.next_check_at, names(after)) == (None, {ExceptionName.REFUND_UNCONFIRMED})


async def test_two_people_at_once_give_it_back_once(w: World) -> None:
    session, payment_id = await paid(w, "CARD")
    acts = [refunding.refund(w.payments.desk, session.id, payment_id, by=f"p{n}") for n in range(8)]
    done = await asyncio.gather(*acts, return_exceptions=True)
    assert sum(isinstance(one, Session) for one in done) == 1
    assert all(isinstance(one, Session | Conflict) for one in done)
    assert await w.requests(f"/payment/refund/{payment_id}") == 1


async def test_a_refund_dies_at_each_call_and_money_goes_back_once_at_most() -> None:
    async def run(killer: Killer) -> None:
        clock = Clock()
        shop = Shop(MemoryStore(clock), clock, SmallQPay(clock))
        session = await shop.process().open()
        payment_id = shop.qpay.pay(str(session.attempts[0].id), method="CARD")
        await shop.process().payments.callback(session.id, payment_id)
        process = shop.process(killer)
        await ended(refunding.refund(process.payments.desk, session.id, payment_id, by=BY))
        await process.payments.stop()
        rested = await shop.at_rest(session.id)
        (payment,) = rested.payments
        asked_for = bool(payment.refunds)
        assert (payment.status == "REFUNDED") == bool(shop.qpay.given_back)
        assert payment.status != "REFUNDED" or asked_for, "QPay was asked for what was committed first"
        if asked_for and not shop.qpay.given_back:
            assert ExceptionName.REFUND_UNCONFIRMED in rested.exceptions
            await refunding.refund(shop.process().payments.desk, session.id, payment_id, by=BY)
            rested = await shop.at_rest(session.id)
            assert rested.sum("refunded") == 5_000_000
        assert len(shop.qpay.given_back) <= 1

    await table(run, tuple(Fault))


# --- late money


async def test_late_money_waits_for_a_person_where_the_shop_says_so(w: World) -> None:
    w.with_rules(REVIEW)
    session = await w.open()
    w.clock.advance(1801)
    await w.worker.once()
    payment_id = await w.pay(session)
    await w.payments.callback(session.id, payment_id)
    held = await w.stored(session.id)
    assert (held.status, held.sum("held"), names(held)) == (Status.EXPIRED, 5_000_000, {ExceptionName.LATE})
    after = await refunding.review(w.payments.desk, session.id, "accept", by=BY)
    assert (after.status, len(after.orders), after.sum("ordered")) == (Status.PAID, 2, 5_000_000)
    assert await w.payments.callback(session.id, payment_id) == "repeated"


async def test_declined_money_is_due_back_and_makes_no_order_later(w: World) -> None:
    w.with_rules(REVIEW)
    session = await w.open()
    await w.payments.cancel(session.id)
    # The bank had the QR open: QPay takes money for a cancelled invoice only in a race, which the simulator refuses.
    invoice = w.invoices()[0]
    invoice.cancelled = False
    payment_id = await w.pay(session)
    await w.payments.callback(session.id, payment_id)
    assert names(await w.stored(session.id)) == {ExceptionName.AFTER_CANCEL}
    after = await refunding.review(w.payments.desk, session.id, "refund", by=BY)
    assert (after.status, after.sum("refund_due")) == (Status.CANCELLED, 5_000_000)
    w.with_rules(Rules())
    after = await w.payments.check(session.id, Reason.OPERATOR)
    assert (after.status, after.orders) == (Status.CANCELLED, ())


async def test_short_money_is_accepted_by_a_named_person(w: World) -> None:
    session = await w.open()
    await w.payments.callback(session.id, await w.pay(session, "20000"))
    after = await refunding.review(w.payments.desk, session.id, "accept", note="a regular", by=BY)
    assert (after.status, after.sum("ordered"), after.exceptions) == (Status.PAID, 2_000_000, frozenset())
    story = await w.store.history(session.id, 200)
    told = next(event.data for event in story if event.type == "session.reviewed")
    assert told == {"decision": "accept", "by": BY, "note": "a regular", "shortfall": "30000.00"}
    with pytest.raises(Conflict):
        await refunding.review(w.payments.desk, session.id, "accept", by=BY)


# --- money without a session


async def test_what_one_person_pays_back_another_does_not_assign_meanwhile(w: World) -> None:
    asked = InvoiceRequest(
        sender_invoice_no="POS-7", receiver_code="till", description="till", amount=5_000_000, callback_url="http://x"
    )
    payment_id = await w.pay_invoice((await w.qpay.create_invoice(asked)).id)
    await w.payments.callback("nobody", payment_id)
    session = await w.open()
    told = w.qpay.get_payment

    async def closed_meanwhile(id_: str) -> SeenPayment | None:
        await refunding.close(w.payments.desk, id_, reference="KHAN-1", by="sarnai")
        return await told(id_)

    w.qpay.get_payment = closed_meanwhile  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="closed"):
        await refunding.assign(w.payments.desk, payment_id, session.id, by=BY)
    assert (await w.stored(session.id)).payments == ()


# --- expired invoices


async def test_an_expired_invoice_is_cancelled_where_the_shop_says_so(w: World) -> None:
    w.with_rules(CANCEL)
    session = await w.open()
    w.clock.advance(1801)
    await w.worker.once()
    after = await w.stored(session.id)
    assert (after.status, after.attempts[0].state) == (Status.EXPIRED, InvoiceState.CANCELLED)
    assert w.invoices()[0].cancelled
    assert after.next_check_at is None


async def test_what_qpay_does_not_cancel_stays_pending_and_is_tried_again(w: World) -> None:
    w.with_rules(CANCEL)
    session = await w.open()
    w.clock.advance(1801)
    await w.faults(reply={"invoice_cancel": {"status": 500, "times": 1}})
    await w.worker.once()
    assert (await w.stored(session.id)).status is Status.PENDING
    after = await rested(w, session)
    assert (after.status, after.attempts[0].state) == (Status.EXPIRED, InvoiceState.CANCELLED)


async def test_money_that_comes_in_between_makes_the_order(w: World) -> None:
    w.with_rules(CANCEL)
    session = await w.open()
    w.clock.advance(1801)
    cancel = w.qpay.cancel_invoice

    async def paid_first(invoice_id: str) -> Cancelling:
        await w.pay(session)
        return await cancel(invoice_id)

    w.qpay.cancel_invoice = paid_first  # type: ignore[method-assign]
    await w.worker.once()
    w.qpay.cancel_invoice = cancel  # type: ignore[method-assign]
    after = await rested(w, session)
    assert after.status is Status.PAID
