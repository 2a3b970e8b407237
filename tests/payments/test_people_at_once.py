"""Several people decide about the same money at once, on every database, against a simulated QPay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.payments.world import World

from tulbur.core.session import Reason, Session, Status
from tulbur.core.settling import SeenPayment
from tulbur.errors import Conflict, ProviderUnavailable, TulburError
from tulbur.payments import refunding
from tulbur.ports import Disposition, InvoiceRequest, PaymentQuery, Provider, Unmatched

pytestmark = pytest.mark.anyio


async def all_at_once(*acts: Any) -> list[Session | Unmatched]:
    """What went through; the others may only have been told no."""
    done = await asyncio.gather(*acts, return_exceptions=True)
    assert all(isinstance(one, Session | Unmatched | str | TulburError) for one in done), done
    return [one for one in done if isinstance(one, Session | Unmatched)]


def balanced(session: Session) -> bool:
    return all(p.ordered + p.refund_due + p.refunded + p.held == p.amount for p in session.payments if p.received)


async def foreign(w: World) -> str:
    """Money on an invoice of the same merchant's till."""
    made = await w.qpay.create_invoice(
        InvoiceRequest(
            sender_invoice_no="POS-7",
            receiver_code="till",
            description="till",
            amount=5_000_000,
            callback_url="http://127.0.0.1:9/till",
        )
    )
    return await w.pay_invoice(made.id)


async def test_a_card_goes_back_once_whoever_asks(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session, method="CARD")
    await w.payments.callback(session.id, payment_id)
    desk = w.payments.desk
    acts = [refunding.refund(desk, session.id, payment_id, by=f"p{n}", key=f"k{n % 2}:b") for n in range(6)]
    paid_back = [refunding.refund(desk, session.id, payment_id, by="q", reference=f"R{n}") for n in range(2)]
    await all_at_once(*acts, *paid_back, w.payments.callback(session.id, payment_id))
    await w.payments.check(session.id, Reason.OPERATOR)
    after = await w.stored(session.id)
    assert after.sum("refunded") == 5_000_000
    assert balanced(after)
    by_hand = sum(bool(r.reference) for r in after.payments[0].refunds)
    assert by_hand + await w.requests(f"/payment/refund/{payment_id}") == 1
    assert len(after.orders) == 2


async def test_of_money_paid_twice_one_goes_back_though_each_of_two_people_takes_another(w: World) -> None:
    session = await w.open()
    both = [await w.pay(session, method="CARD") for _ in range(2)]
    await w.payments.callback(session.id, both[0])
    desk = w.payments.desk
    await all_at_once(*(refunding.refund(desk, session.id, id_, by=f"for {id_}") for id_ in both))
    w.clock.advance(30)
    await w.payments.check(session.id, Reason.OPERATOR)
    after = await w.stored(session.id)
    assert sum([await w.requests(f"/payment/refund/{id_}") for id_ in both]) == 1
    assert (after.sum("ordered"), after.sum("refunded"), after.status) == (5_000_000, 5_000_000, Status.PAID)


async def test_a_lost_answer_is_never_followed_by_a_second_request(w: World) -> None:
    session = await w.open()
    payment_id = await w.pay(session, method="CARD")
    await w.payments.callback(session.id, payment_id)
    await w.faults(reply={"payment_refund": {"status": 500, "lose_after_commit": True}})
    with pytest.raises(ProviderUnavailable) as lost:
        await refunding.refund(w.payments.desk, session.id, payment_id, by="bold", key="k:b")
    assert lost.value.session_id == session.id
    again = await refunding.refund(w.payments.desk, session.id, payment_id, by="bold", key="k:b")
    assert again.payments[0].refunds
    w.clock.advance(30)
    await w.payments.check(session.id, Reason.OPERATOR)
    assert (await w.stored(session.id)).sum("refunded") == 5_000_000
    assert await w.requests(f"/payment/refund/{payment_id}") == 1


async def test_a_review_is_decided_once_among_expiry_cancel_and_more_money(w: World) -> None:
    session = await w.open()
    await w.payments.callback(session.id, await w.pay(session, "20000"))
    w.clock.advance(1801)
    rest = await w.pay(session, "30000")
    desk = w.payments.desk
    await all_at_once(
        refunding.review(desk, session.id, "accept", by="a"),
        refunding.review(desk, session.id, "refund", by="b"),
        refunding.review(desk, session.id, "accept", by="c"),
        w.payments.cancel(session.id),
        w.payments.check(session.id, Reason.OPERATOR),
    )
    await w.payments.callback(session.id, rest)
    w.clock.advance(30)
    await w.payments.check(session.id, Reason.OPERATOR)
    after = await w.stored(session.id)
    assert balanced(after)
    assert len(after.orders) == (2 if after.status is Status.PAID else 0)
    assert after.sum("received") == 5_000_000


async def test_the_rest_of_an_accepted_shortfall_pays_for_the_same_orders(w: World) -> None:
    session = await w.open()
    first = await w.pay(session, "20000")
    await w.payments.callback(session.id, first)
    accepted = await refunding.review(w.payments.desk, session.id, "accept", by="bold")
    w.clock.advance(30)
    w.invoices()[0].cancelled = False
    rest = await w.pay(session, "30000")
    await w.payments.callback(session.id, rest)
    after = await w.stored(session.id)
    assert after.orders == accepted.orders
    assert (after.sum("ordered"), after.sum("refund_due"), after.exceptions) == (5_000_000, 0, frozenset())
    back = await refunding.refund(w.payments.desk, session.id, rest, by="bold", reference="R1")
    assert (back.sum("ordered"), back.sum("refunded"), back.status) == (2_000_000, 3_000_000, Status.PAID)


async def test_a_payment_goes_to_one_session_or_is_closed(w: World) -> None:
    payment_id = await foreign(w)
    await w.payments.callback("nobody", payment_id)
    first, second = await w.open(), await w.open()
    desk = w.payments.desk
    done = await all_at_once(
        *(refunding.assign(desk, payment_id, s.id, by="bold") for s in (first, second, first, second))
    )
    assert len({one.id for one in done if isinstance(one, Session)}) == 1
    statuses = sorted([(await w.stored(s.id)).status for s in (first, second)])
    assert statuses == [Status.PAID, Status.PENDING]
    waiting = await w.store.payments(PaymentQuery(disposition=Disposition.UNMATCHED))
    assert [p.payment_id for p in waiting] == []
    holder = next(s for s in (first, second) if s.id == done[0].id)  # type: ignore[union-attr]
    await refunding.refund(desk, holder.id, payment_id, by="bold", reference="R1")
    assert (await w.stored(holder.id)).sum("refunded") == 5_000_000


class Meanwhile:
    """A provider; once it has answered what a payment is, something else happens first."""

    def __init__(self, inner: Provider, act: Callable[[], Awaitable[object]]) -> None:
        self._inner = inner
        self._act = act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def get_payment(self, payment_id: str) -> SeenPayment | None:
        seen = await self._inner.get_payment(payment_id)
        await self._act()
        return seen


async def test_what_is_closed_while_it_is_being_assigned_is_not_assigned(w: World) -> None:
    payment_id = await foreign(w)
    await w.payments.callback("nobody", payment_id)
    session = await w.open()
    desk = w.payments.desk
    provider = Meanwhile(desk.provider, lambda: refunding.close(desk, payment_id, reference="R1", by="tuya"))
    with pytest.raises(Conflict, match="this payment is closed"):
        await refunding.assign(replace(desk, provider=provider), payment_id, session.id, by="bold")
    assert (await w.stored(session.id)).payments == ()
    closed = await w.store.unmatched_payment(payment_id)
    assert closed is not None
    assert closed.note["by"] == "tuya"


async def test_an_unmatched_payment_is_closed_by_one_reference(w: World) -> None:
    payment_id = await foreign(w)
    await w.payments.callback("nobody", payment_id)
    desk = w.payments.desk
    done = await all_at_once(*(refunding.close(desk, payment_id, reference=f"R{n % 2}", by=f"p{n}") for n in range(4)))
    references = {one.note["reference"] for one in done if isinstance(one, Unmatched)}
    assert len(references) == 1
    again = await refunding.close(desk, payment_id, reference=references.pop(), by="later")
    assert isinstance(again, Unmatched)
    session = await w.open()
    with pytest.raises(Conflict, match="closed"):
        await refunding.assign(desk, payment_id, session.id, by="bold")


async def test_what_another_merchant_was_paid_is_nobodys_here(w: World) -> None:
    session = await w.open()
    with pytest.raises(TulburError):
        await refunding.assign(w.payments.desk, "999999999999999", session.id, by="bold")
    assert (await w.stored(session.id)).payments == ()
