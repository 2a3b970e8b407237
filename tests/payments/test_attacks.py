"""Attacks on a checkout that once lost, doubled or hung something; each names the law it tried to break."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.payments.world import Clock

from proving.killing import CREATE_INVOICE, Fault, Killer, Process, Shop, SmallQPay, ended
from tulbur.core import steps
from tulbur.core.session import ExceptionName, Reason, Status
from tulbur.core.settling import InvoiceSeen
from tulbur.core.steps import InvoiceMade
from tulbur.errors import Conflict, ProviderRefused, ProviderUnavailable, StoreUnavailable
from tulbur.ports import InvoiceRequest
from tulbur.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def shop() -> Shop:
    clock = Clock()
    return Shop(MemoryStore(clock), clock, SmallQPay(clock))


async def opened_without_an_answer(shop: Shop, process: Process) -> str:
    """A session whose invoice inv-1 QPay made without saying so."""
    real = shop.qpay.create_invoice

    async def lost(asked: InvoiceRequest) -> InvoiceMade:
        await real(asked)
        raise ProviderUnavailable

    shop.qpay.create_invoice = lost  # type: ignore[method-assign,assignment]
    with pytest.raises(ProviderUnavailable) as silent:
        await process.open()
    del shop.qpay.create_invoice
    return str(silent.value.session_id)


async def test_law_2_a_question_asked_before_the_deadline_does_not_expire_the_session(shop: Shop) -> None:
    process = shop.process()
    session = await process.open(expires_in=60)
    empty, gate, answered = shop.qpay.check, asyncio.Event(), asyncio.Event()

    async def slow(invoice_id: str) -> Any:
        answer = await empty(invoice_id)
        answered.set()
        await gate.wait()
        return answer

    shop.clock.advance(57)
    shop.qpay.check = slow  # type: ignore[method-assign]
    asking = asyncio.create_task(process.payments.check(session.id))
    await answered.wait()
    shop.qpay.pay(str(session.attempts[0].id))  # in time; its callback is lost
    shop.clock.advance(4)
    gate.set()
    await asking
    del shop.qpay.check
    assert (await shop.at_rest(session.id)).status is Status.PAID


async def test_law_7_a_payment_on_an_invoice_qpay_does_not_find_yet_is_not_foreign(shop: Shop) -> None:
    process = shop.process()
    session_id = await opened_without_an_answer(shop, process)
    payment_id = shop.qpay.pay("inv-1")
    get, late = shop.qpay.get_invoice, [True]

    async def get_invoice(invoice_id: str) -> InvoiceSeen | None:
        return None if late and late.pop() else await get(invoice_id)

    shop.qpay.get_invoice = get_invoice  # type: ignore[method-assign]
    await process.payments.callback(session_id, payment_id)
    assert (await shop.at_rest(session_id)).status is Status.PAID


async def test_law_2_a_payment_id_qpay_refuses_to_look_up_ends_unconfirmed(shop: Shop) -> None:
    async def refuses(_: str) -> Any:
        raise ProviderRefused("Bad Request", "Validation failed (uuid is expected)", provider_status=400)

    shop.qpay.get_payment = refuses  # type: ignore[method-assign,assignment]
    process = shop.process()
    session = await process.open()
    await process.payments.callback(session.id, "odd")
    rested = await shop.at_rest(session.id)
    assert rested.status is Status.EXPIRED
    assert rested.exceptions == {ExceptionName.UNCONFIRMED}


async def test_law_2_hints_that_lead_nowhere_do_not_keep_a_new_one_from_its_look(shop: Shop) -> None:
    process = shop.process()
    session_id = await opened_without_an_answer(shop, process)
    for number in range(6):
        await process.payments.callback(session_id, f"nothing-{number}")
    assert await process.payments.callback(session_id, shop.qpay.pay("inv-1")) == "paid"


async def test_law_2_money_on_a_superseded_invoice_is_found_though_the_session_is_paid(shop: Shop) -> None:
    process = shop.process()
    silent = Killer(CREATE_INVOICE, Fault.REFUSED)
    assert isinstance(await ended(shop.process(silent).open(idempotency_key="k")), ProviderUnavailable)
    session = await process.open(idempotency_key="k")
    made = await shop.qpay.create_invoice(
        InvoiceRequest(
            sender_invoice_no=session.attempts[0].sender_invoice_no,
            receiver_code="terminal",
            description="late",
            amount=session.amount,
            callback_url="http://127.0.0.1:9",
        )
    )
    await process.payments.desk.step(
        session.id, lambda s: steps.with_invoice(s, 1, InvoiceMade(id=made.id), shop.clock())
    )
    shop.qpay.pay(made.id)
    shop.qpay.bills[made.id].hidden = True
    await process.payments.callback(session.id, shop.qpay.pay(str(session.attempts[1].id)))
    assert (await shop.stored(session.id)).status is Status.PAID
    shop.qpay.bills[made.id].hidden = False
    assert (await shop.at_rest(session.id)).exceptions == {ExceptionName.PAID_TWICE}


async def test_law_2_money_qpay_speaks_of_but_never_shows_is_named(shop: Shop) -> None:
    process = shop.process()
    session = await process.open()
    payment_id = shop.qpay.pay("inv-1")
    shop.qpay.bills["inv-1"].hidden = True
    with pytest.raises(Conflict):
        await process.payments.cancel(session.id)
    while (await shop.stored(session.id)).next_check_at is not None:
        shop.clock.advance(61)
        await process.worker.once()
    stored = await shop.stored(session.id)
    assert (stored.status, stored.exceptions) == (Status.EXPIRED, {ExceptionName.UNCONFIRMED})
    assert shop.qpay.calls.count("check") < 10
    shop.qpay.bills["inv-1"].hidden = False
    await process.payments.callback(session.id, payment_id)
    assert (await shop.at_rest(session.id)).exceptions == frozenset()


async def test_law_2_settling_goes_on_though_the_outbox_is_broken(shop: Shop) -> None:
    process = shop.process()
    session = await process.open(expires_in=60)
    shop.qpay.pay("inv-1")

    async def broken(*_: object, **__: object) -> int:
        raise StoreUnavailable

    shop.store.publish = broken  # type: ignore[method-assign]
    shop.clock.advance(61)
    with pytest.raises(StoreUnavailable):
        await process.worker.once()
    assert (await shop.stored(session.id)).status is Status.PAID


async def test_one_qr_is_payable_when_two_attempts_come_back_the_wrong_way_round(shop: Shop) -> None:
    real, gates = shop.qpay.create_invoice, [asyncio.Event(), asyncio.Event()]
    waiting = iter(gates)

    async def slow(asked: Any) -> Any:
        gate = next(waiting)
        made = await real(asked)
        await gate.wait()
        return made

    async def silent(_: str) -> Any:
        raise ProviderUnavailable

    shop.qpay.create_invoice = slow  # type: ignore[method-assign,assignment]
    shop.qpay.cancel_invoice = silent  # type: ignore[method-assign,assignment]
    process = shop.process()
    first = asyncio.create_task(process.open(idempotency_key="k"))
    while len(shop.qpay.bills) < 1:
        await asyncio.sleep(0)
    shop.clock.advance(31)
    second = asyncio.create_task(process.open(idempotency_key="k"))
    while len(shop.qpay.bills) < 2:
        await asyncio.sleep(0)
    gates[0].set()
    shown = [(await first).payable]
    gates[1].set()
    shown.append((await second).payable)
    assert len({invoice.id for invoice in shown if invoice}) == 1, "a QR that was shown stays the only one"


async def test_law_12_a_look_that_another_made_needless_is_not_made(shop: Shop) -> None:
    process = shop.process()
    session = await process.open(expires_in=60)
    payment_id = shop.qpay.pay("inv-1")
    shop.clock.advance(61)
    (claimed,) = await shop.store.claim_due(shop.clock(), "w", 20, 60)
    await process.payments.callback(session.id, payment_id)
    assert (await process.payments.look(claimed)).status is Status.PAID
    assert process.heard.asks == [Reason.CALLBACK]
