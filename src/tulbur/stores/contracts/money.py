"""What a store promises about money: a payment counts once, for one session, and none is forgotten."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

import asyncio
from dataclasses import replace

from tulbur.core.session import SECOND, ExceptionName
from tulbur.core.settling import Evidence, InvoiceAnswer, SeenPayment, after_answer
from tulbur.ports import Committed, PaymentTaken, Unmatched
from tulbur.stores.contracts.committing import assert_untouched
from tulbur.stores.contracts.samples import (
    AMOUNT,
    NOW,
    Part,
    answered,
    called_back,
    gone,
    invoiced,
    paid,
    told,
    won,
)

HINT = Unmatched(payment_id="pay-1", seen_at=NOW, due_at=NOW + 3 * SECOND, hinted_session_id="s-9")


class MoneyContract(Part):
    async def test_a_payment_finds_its_session(self) -> None:
        async with self.harness.open() as store:
            stored = await paid(store)
            assert await store.by_payment("pay-s-1") == stored
            assert await store.by_payment("pay-x") is None

    async def test_orders_come_with_the_payment(self) -> None:
        async with self.harness.open() as store:
            stored = await paid(store)
            assert [order.shop_id for order in stored.orders] == ["tea", "cup"]
            for order in stored.orders:
                assert await store.order(order.id) == ("s-1", order)
            assert await store.order("ord_x") is None

    async def test_orders_are_written_once(self) -> None:
        async with self.harness.open() as store:
            stored = await paid(store)
            more = answered(stored, "pay-s-1", "pay-2")
            await won(store, stored, more)
            assert (await store.stats(NOW)).orders == 2
            assert (await store.by_payment("pay-2")) == more.committed()

    async def test_a_payment_advances(self) -> None:
        async with self.harness.open() as store:
            before = await invoiced(store)
            for status in ("NEW", "PARTIAL", "PAID", "REFUNDED"):
                after = answered(before, "pay-1", status=status)
                before = await won(store, before, after)
                found = await store.by_payment("pay-1")
                assert found
                assert [payment.status for payment in found.payments] == [status]
            assert await told(store, "s-1") != []

    async def test_money_due_back_is_counted_once(self) -> None:
        async with self.harness.open() as store:
            stored = await paid(store)
            stored = await won(store, stored, answered(stored, "pay-2"))
            await won(store, stored, called_back(stored, "pay-3"))
            stats = await store.stats(NOW)
            assert (stats.refund_due_count, stats.refund_due) == (1, AMOUNT)

    async def test_a_payment_of_another_session_is_refused(self) -> None:
        async with self.harness.open() as store:
            first = await paid(store)
            second = await invoiced(store, "s-2")
            after = answered(second, "pay-own", "pay-s-1", "pay-other")
            assert await store.commit(second, after) == PaymentTaken(frozenset({"pay-s-1"}))
            await assert_untouched(store, second, after)
            assert await store.by_payment("pay-own") is None
            assert await store.by_payment("pay-s-1") == first

    async def test_a_session_decides_again_without_a_taken_payment(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            second = await invoiced(store, "s-2")
            refused = await store.commit(second, answered(second, "pay-s-1"))
            assert isinstance(refused, PaymentTaken)
            seen = SeenPayment(id="pay-s-1", amount=AMOUNT, currency="MNT", status="PAID")
            answer = InvoiceAnswer(invoice_id="inv-s-2", payments=(seen,))
            again = after_answer(second, Evidence(answers=(answer,), complete=True, taken=refused.ids), NOW)
            stored = await won(store, second, again)
            assert stored.exceptions == {ExceptionName.CONTESTED}
            assert await store.get("s-2") == stored

    async def test_of_two_sessions_at_once_one_gets_the_payment(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            befores = [await invoiced(store, f"s-{n}") for n in range(6)]
            afters = [answered(before, "pay-1") for before in befores]
            results = await asyncio.gather(*((store, other)[n % 2].commit(befores[n], afters[n]) for n in range(6)))
            assert results.count(Committed.WON) == 1
            assert results.count(PaymentTaken(frozenset({"pay-1"}))) == 5
            winner = results.index(Committed.WON)
            assert await store.by_payment("pay-1") == afters[winner].committed()
            for n in range(6):
                if n != winner:
                    await assert_untouched(store, befores[n], afters[n])
            assert (await store.stats(NOW)).orders == 2

    async def test_a_payment_without_a_session_is_kept(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            assert await store.record_unmatched(HINT)
            assert not await other.record_unmatched(HINT)
            assert await other.unmatched(10) == [HINT]
            assert await store.by_payment("pay-1") is None
            assert (await store.stats(NOW)).unmatched == 1

    async def test_later_facts_are_added_to_a_payment_without_a_session(self) -> None:
        async with self.harness.open() as store:
            await store.record_unmatched(HINT)
            facts = Unmatched(
                payment_id="pay-1",
                seen_at=NOW + SECOND,
                due_at=NOW + 9 * SECOND,
                invoice_id="inv-9",
                amount=AMOUNT,
                status="PAID",
                raw="{}",
            )
            assert not await store.record_unmatched(facts)
            known = replace(facts, seen_at=NOW, hinted_session_id="s-9")
            assert await store.unmatched(10) == [known]
            assert not await store.record_unmatched(replace(HINT, due_at=facts.due_at))
            assert not await store.record_unmatched(replace(facts, status="NEW", amount=1))
            assert await store.unmatched(10) == [known]
            assert not await store.record_unmatched(replace(facts, status="REFUNDED"))
            assert await store.unmatched(10) == [replace(known, status="REFUNDED")]

    async def test_payments_without_a_session_are_listed_oldest_first(self) -> None:
        async with self.harness.open() as store:
            for n, payment_id in ((2, "a"), (1, "c"), (1, "b"), (3, "d")):
                await store.record_unmatched(replace(HINT, payment_id=payment_id, seen_at=NOW + n))
            assert [one.payment_id for one in await store.unmatched(10)] == ["b", "c", "a", "d"]
            assert [one.payment_id for one in await store.unmatched(2)] == ["b", "c"]

    async def test_a_payment_without_a_session_is_claimed_by_the_first_commit(self) -> None:
        async with self.harness.open() as store:
            await store.record_unmatched(HINT)
            before = await invoiced(store)
            stored = await won(store, before, answered(before, "pay-1"))
            assert await store.by_payment("pay-1") == stored
            assert await store.unmatched(10) == []
            assert (await store.stats(NOW)).unmatched == 0
            second = await invoiced(store, "s-2")
            assert await store.commit(second, answered(second, "pay-1")) == PaymentTaken(frozenset({"pay-1"}))

    async def test_a_claimed_payment_stays_claimed(self) -> None:
        async with self.harness.open() as store:
            stored = await paid(store)
            facts = replace(HINT, payment_id="pay-s-1", amount=1, status="REFUNDED")
            assert not await store.record_unmatched(facts)
            assert await store.unmatched(10) == []
            assert await store.by_payment("pay-s-1") == stored

    async def test_a_lost_commit_claims_no_payment(self) -> None:
        async with self.harness.open() as store:
            await store.record_unmatched(HINT)
            old = await invoiced(store)
            await won(store, old, called_back(old))
            assert await store.commit(old, answered(old, "pay-1")) is Committed.LOST
            assert await store.unmatched(10) == [HINT]
            await paid(store, "s-2")
            third = await invoiced(store, "s-3")
            assert isinstance(await store.commit(third, answered(third, "pay-1", "pay-s-2")), PaymentTaken)
            assert await store.unmatched(10) == [HINT]

    async def test_a_hint_and_a_commit_at_once_keep_the_payment_once(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            befores = [await invoiced(store, f"s-{n}") for n in range(4)]
            afters = [answered(before, f"pay-{before.id}") for before in befores]
            await asyncio.gather(
                *(store.commit(befores[n], afters[n]) for n in range(4)),
                *(other.record_unmatched(replace(HINT, payment_id=f"pay-s-{n}")) for n in range(4)),
            )
            assert await store.unmatched(10) == []
            for after in afters:
                assert await other.by_payment(after.payments[0].id) == after.committed()

    async def test_late_money_is_written_like_any_other(self) -> None:
        async with self.harness.open() as store:
            for id_, cancel in (("s-1", False), ("s-2", True)):
                closed = await gone(store, id_, cancel=cancel)
                stored = await won(store, closed, answered(closed, f"pay-{id_}", now=NOW + 9000 * SECOND))
                assert stored.orders
                assert await store.order(stored.orders[0].id) == (id_, stored.orders[0])
