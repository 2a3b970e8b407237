from __future__ import annotations

import asyncio

import pytest
from tests.payments.world import World, request

from tulbur.core.session import InvoiceState, Status
from tulbur.errors import (
    AmountMismatch,
    IdempotencyMismatch,
    IdempotencyRunning,
    ProviderRefused,
    ProviderUnavailable,
    SessionExists,
)
from tulbur.qpay.breaker import FAILURES, LONGEST_PAUSE_SECONDS

pytestmark = pytest.mark.anyio


async def test_an_open_session_has_an_invoice_at_qpay(w: World) -> None:
    session = await w.open()
    assert session == await w.stored(session.id)
    assert session.status is Status.PENDING
    assert session.payable is not None
    assert session.payable.id == w.invoices()[0].id
    assert session.payable.qr_text
    assert len(session.payable.links) == 23


async def test_a_caller_may_name_the_session_once(w: World) -> None:
    session = await w.open(id="cart-17")
    assert session.id == "cart-17"
    with pytest.raises(SessionExists) as taken:
        await w.open(id="cart-17", user_id="u2")
    assert taken.value.session_id == "cart-17"
    assert len(w.invoices()) == 1
    again = await w.open(id="cart-17", idempotency_key="cart-17")
    assert again == await w.stored("cart-17")
    with pytest.raises(IdempotencyMismatch):
        await w.open(id="cart-17", idempotency_key="cart-17", body_digest="another")
    assert len(w.invoices()) == 1


async def test_a_cart_that_does_not_add_up_changes_nothing(w: World) -> None:
    with pytest.raises(AmountMismatch):
        await w.open(amount=5_000_100)
    assert not w.invoices()
    assert not w.heard.changes


async def test_the_same_key_gives_the_same_session(w: World) -> None:
    first = await w.open(idempotency_key="k", scope="shop")
    again = await w.open(idempotency_key="k", scope="shop")
    assert again.id == first.id
    assert len(w.invoices()) == 1


async def test_keys_of_different_scopes_are_different(w: World) -> None:
    first = await w.open(idempotency_key="k", scope="shop")
    other = await w.open(idempotency_key="k", scope="other")
    assert other.id != first.id


async def test_the_same_key_with_another_body_is_refused(w: World) -> None:
    await w.open(idempotency_key="k")
    with pytest.raises(IdempotencyMismatch):
        await w.open(idempotency_key="k", body_digest="another")


async def test_concurrent_requests_with_one_key_make_one_invoice(w: World) -> None:
    opening = (w.payments.open(request(idempotency_key="k")) for _ in range(16))
    results = await asyncio.gather(*opening, return_exceptions=True)
    sessions = [r for r in results if not isinstance(r, BaseException)]
    assert len({s.id for s in sessions}) == 1
    assert all(isinstance(r, IdempotencyRunning) for r in results if isinstance(r, BaseException))
    assert len(w.invoices()) == 1


async def test_a_lost_answer_is_a_502_that_keeps_the_session_and_the_key_goes_on(w: World) -> None:
    await w.faults(reply={"invoice_create": {"lose_after_commit": True, "times": 1}})
    with pytest.raises(ProviderUnavailable) as lost:
        await w.open(idempotency_key="k")
    stored = await w.stored(str(lost.value.session_id))
    assert stored.attempts[0].state is InvoiceState.UNKNOWN
    assert await w.requests("/v2/invoice") == 1, "an invoice POST is never repeated by itself"

    session = await w.open(idempotency_key="k")
    assert session.id == stored.id
    assert [a.number for a in session.attempts] == [1, 2]
    assert session.payable is not None
    assert session.payable.number == 2
    assert session.attempts[0].sender_invoice_no != session.attempts[1].sender_invoice_no


async def test_qpay_down_is_a_502_and_the_key_goes_on_when_it_is_back(w: World) -> None:
    await w.faults(reply={"invoice_create": {"status": 502, "body": "<html>bad gateway</html>", "times": 1}})
    with pytest.raises(ProviderUnavailable) as down:
        await w.open(idempotency_key="k")
    session = await w.open(idempotency_key="k")
    assert session.id == down.value.session_id
    assert session.payable is not None


async def test_a_shop_that_asks_again_and_again_while_qpay_is_left_alone_uses_no_attempt_up(w: World) -> None:
    """Found by `make chaos`: the breaker was open, nothing was sent, and ten repeats later the answer was 409."""
    await w.faults(reply={"invoice_create": {"status": 503}})
    for _ in range(30):
        with pytest.raises(ProviderUnavailable) as down:
            await w.open(idempotency_key="k")
    sent = await w.requests("/v2/invoice")
    stored = await w.stored(str(down.value.session_id))
    assert len(stored.attempts) == sent == FAILURES, "no attempt without a request"
    await w.faults()
    w.clock.advance(LONGEST_PAUSE_SECONDS)
    session = await w.open(idempotency_key="k")
    assert session.id == stored.id
    assert session.payable is not None


async def test_a_refusal_carries_qpays_key_and_the_session(w: World) -> None:
    body = '{"error":"INVOICE_CODE_INVALID","message":"INVOICE_CODE_INVALID"}'
    await w.faults(reply={"invoice_create": {"status": 400, "body": body, "times": 1}})
    with pytest.raises(ProviderRefused) as refused:
        await w.open(idempotency_key="k")
    assert refused.value.key == "INVOICE_CODE_INVALID"
    stored = await w.stored(str(refused.value.session_id))
    assert stored.attempts[0].state is InvoiceState.CANCELLED
    assert (await w.open(idempotency_key="k")).payable is not None


async def test_an_attempt_that_never_came_back_is_given_up_after_its_deadline(w: World) -> None:
    opening = asyncio.create_task(w.open(idempotency_key="k"))
    while not w.heard.changes:
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    with pytest.raises(IdempotencyRunning):
        await w.open(idempotency_key="k")
    w.clock.advance(31)
    session = await w.open(idempotency_key="k")
    assert session.attempts[0].state is InvoiceState.UNKNOWN
    assert session.payable is not None
    assert session.payable.number == 2


async def test_an_invoice_that_wakes_up_after_the_next_one_is_cancelled_at_qpay(w: World) -> None:
    gate = asyncio.Event()
    real = w.simulator.sleep
    w.simulator.sleep = lambda _: gate.wait()
    await w.faults(reply={"invoice_create": {"delay_seconds": 5, "times": 1}})
    slow = asyncio.create_task(w.open(idempotency_key="k"))
    while not await w.requests("/v2/invoice"):
        await asyncio.sleep(0)
    w.clock.advance(31)
    second = await w.open(idempotency_key="k")
    gate.set()
    first = await slow
    w.simulator.sleep = real
    assert first.id == second.id
    assert first.payable is not None
    assert first.payable.id == second.payable.id if second.payable else False
    assert [a.state for a in first.attempts] == [InvoiceState.CANCELLED, InvoiceState.OPEN]
    assert sorted(i.status() for i in w.invoices()) == ["CANCELED", "OPEN"]


async def test_two_repeats_at_once_make_one_invoice(w: World) -> None:
    await w.faults(reply={"invoice_create": {"status": 500, "times": 1}})
    with pytest.raises(ProviderUnavailable):
        await w.open(idempotency_key="k")
    repeats = [w.open(idempotency_key="k") for _ in range(8)]
    done = await asyncio.gather(*repeats, return_exceptions=True)
    assert len(w.invoices()) == 1
    assert all(not isinstance(one, BaseException) or isinstance(one, IdempotencyRunning) for one in done)
