"""What a commit promises: one winner, all of it or nothing, and the truth about itself when its answer was lost."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

import asyncio

from tulbur.core.session import Session, Status
from tulbur.core.steps import InvoiceMade, attempted, with_invoice
from tulbur.errors import Conflict
from tulbur.ports import Committed, PaymentTaken, Store
from tulbur.stores.contracts.samples import (
    NOW,
    Part,
    added,
    answered,
    called_back,
    invoiced,
    paid,
    refusal,
    session,
    told,
    with_qr,
    won,
)

LOSSES = (True, False)


async def assert_untouched(store: Store, before: Session, refused: Session) -> None:
    """Nothing of a commit that was not won is to be found anywhere."""
    assert await store.get(before.id) == before
    kept = {event.id for event in await store.history(before.id, 200)}
    assert not kept & {event.id for event in refused.news[len(before.news) :]}
    for payment in refused.payments:
        holder = await store.by_payment(payment.id)
        assert payment in before.payments or holder is None or holder.id != before.id
    for order in refused.orders:
        assert order in before.orders or await store.order(order.id) is None


class CommittingContract(Part):
    async def test_a_commit_raises_the_version_by_one(self) -> None:
        async with self.harness.open() as store:
            before = await added(store)
            assert before.version == 1
            after = await won(store, before, with_qr(before))
            assert after.version == 2
            assert await store.get("s-1") == after

    async def test_a_late_commit_is_lost_and_changes_nothing(self) -> None:
        async with self.harness.open() as store:
            old = await invoiced(store)
            current = await won(store, old, called_back(old))
            late = answered(old, "pay-1", "pay-2")
            assert late.status is Status.PAID
            assert await store.commit(old, late) is Committed.LOST
            # The two share one event number, and so one event id: only the winner's may be there.
            assert await told(store, "s-1") == ["session.opened", "session.invoiced", "callback.received"]
            assert await store.get("s-1") == current
            assert await store.by_payment("pay-1") is None
            assert [await store.order(order.id) for order in late.orders] == [None, None]
            assert (await store.stats(NOW)).orders == 0

    async def test_a_commit_to_an_unknown_session_is_lost(self) -> None:
        async with self.harness.open() as store:
            before = session().committed()
            assert await store.commit(before, with_qr(before)) is Committed.LOST
            assert await store.get("s-1") is None
            assert await store.by_invoice("inv-s-1") is None

    async def test_of_many_commits_at_once_one_is_won(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            before = await invoiced(store)
            afters = [called_back(before, f"pay-{n}") for n in range(16)]
            results = await asyncio.gather(
                *((store, other)[n % 2].commit(before, after) for n, after in enumerate(afters))
            )
            assert sorted(str(result) for result in results) == ["Committed.LOST"] * 15 + ["Committed.WON"]
            winner = afters[results.index(Committed.WON)]
            assert await store.get("s-1") == winner.committed()
            assert (await store.history("s-1", 10))[2:] == list(winner.news)

    async def test_of_many_settlings_at_once_one_makes_the_orders(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            before = await invoiced(store)
            after = answered(before, "pay-1")
            results = await asyncio.gather(*((store, other)[n % 2].commit(before, after) for n in range(8)))
            assert results.count(Committed.WON) == 1
            assert results.count(Committed.LOST) == 7
            assert (await store.stats(NOW)).orders == 2
            assert await store.get("s-1") == after.committed()

    async def test_a_commit_whose_answer_was_lost_is_won_once(self) -> None:
        for executed in LOSSES:
            async with self.harness.open() as store, self.harness.reopen(store) as other:
                before = await invoiced(store)
                after = answered(before, "pay-1")
                self.harness.lose_next_commit_answer(store, executed=executed)
                assert await store.commit(before, after) is Committed.WON
                assert await other.get("s-1") == after.committed()
                assert await told(other, "s-1") == [
                    "session.opened", "session.invoiced", *(event.type for event in after.news)
                ]  # fmt: skip
                assert (await other.stats(NOW)).orders == 2
                assert await store.commit(before, called_back(before)) is Committed.LOST

    async def test_a_lost_race_whose_answer_was_lost_is_lost(self) -> None:
        for executed in LOSSES:
            async with self.harness.open() as store:
                old = await invoiced(store)
                current = await won(store, old, called_back(old))
                self.harness.lose_next_commit_answer(store, executed=executed)
                assert await store.commit(old, answered(old, "pay-1")) is Committed.LOST
                assert await store.get("s-1") == current
                assert await store.by_payment("pay-1") is None

    async def test_an_addition_whose_answer_was_lost_is_made_once(self) -> None:
        for executed in LOSSES:
            async with self.harness.open() as store, self.harness.reopen(store) as other:
                new = session(scope="a", idempotency_key="k")
                self.harness.lose_next_commit_answer(store, executed=executed)
                await store.add(new)
                assert await other.get("s-1") == new.committed()
                assert await told(other, "s-1") == ["session.opened"]
                assert await refusal(store, new) == "s-1"

    async def test_a_batch_is_answered_in_the_order_asked(self) -> None:
        async with self.harness.open() as store:
            ids = ("s-3", "s-1", "s-2")
            befores = [await added(store, id_) for id_ in ids]
            stale = await won(store, befores[1], called_back(befores[1]))
            pairs = [(before, with_qr(before)) for before in befores]
            assert await store.commit_many(pairs) == [Committed.WON, Committed.LOST, Committed.WON]
            assert await store.get("s-3") == pairs[0][1].committed()
            assert await store.get("s-1") == stale
            assert await store.by_invoice("inv-s-1") is None
            assert await store.commit_many([]) == []

    async def test_a_bad_pair_fails_alone(self) -> None:
        async with self.harness.open() as store:
            await paid(store, "s-0")
            good, robbed, twin, late = [await invoiced(store, f"s-{n}") for n in range(1, 5)]
            now_late = await won(store, late, called_back(late))
            pairs = [
                (robbed, answered(robbed, "pay-s-0", "pay-own")),
                (twin, called_back(with_qr_of(twin, "inv-s-0"))),
                (late, answered(late, "pay-late")),
                (good, answered(good, "pay-good")),
            ]
            results = await store.commit_many(pairs)
            assert results[0] == PaymentTaken(frozenset({"pay-s-0"}))
            assert isinstance(results[1], Conflict)
            assert results[2:] == [Committed.LOST, Committed.WON]
            assert await store.get(good.id) == pairs[3][1].committed()
            await assert_untouched(store, robbed, pairs[0][1])
            await assert_untouched(store, twin, pairs[1][1])
            assert await store.get(late.id) == now_late
            assert await store.by_payment("pay-own") is None
            assert await store.by_payment("pay-late") is None
            # Their event ids are free, so what they decide next can be told.
            await won(store, robbed, called_back(robbed))

    async def test_two_of_one_batch_cannot_have_one_payment(self) -> None:
        async with self.harness.open() as store:
            first, second = [await invoiced(store, f"s-{n}") for n in (1, 2)]
            results = await store.commit_many([(second, answered(second, "p")), (first, answered(first, "p"))])
            taken = PaymentTaken(frozenset({"p"}))
            assert results in ([taken, Committed.WON], [Committed.WON, taken])
            assert (await store.stats(NOW)).orders == 2

    async def test_a_batch_whose_answer_was_lost_is_won_once(self) -> None:
        for executed in LOSSES:
            async with self.harness.open() as store:
                befores = [await invoiced(store, f"s-{n}") for n in range(3)]
                pairs = [(before, answered(before, f"pay-{before.id}")) for before in befores]
                self.harness.lose_next_commit_answer(store, executed=executed)
                assert await store.commit_many(pairs) == [Committed.WON] * 3
                assert [await store.get(after.id) for _, after in pairs] == [after.committed() for _, after in pairs]
                assert (await store.stats(NOW)).orders == 6

    async def test_batches_at_once_win_each_session_once(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            befores = [await invoiced(store, f"s-{n}") for n in range(6)]
            batches = [[(before, called_back(before, f"pay-{k}")) for before in befores] for k in range(4)]
            results = await asyncio.gather(
                store.commit_many(batches[0]),
                other.commit_many(batches[1][::-1]),
                store.commit_many(batches[2]),
                other.commit_many(batches[3][::-1]),
            )
            for n in range(6):
                own = [results[0][n], results[1][5 - n], results[2][n], results[3][5 - n]]
                assert own.count(Committed.WON) == 1
                assert own.count(Committed.LOST) == 3

    async def test_a_batch_with_one_session_twice_is_a_mistake(self) -> None:
        async with self.harness.open() as store:
            before = await added(store)
            try:
                await store.commit_many([(before, with_qr(before)), (before, called_back(before))])
            except AssertionError:
                assert await store.get("s-1") == before
            else:
                raise LookupError("both were taken")


def with_qr_of(before: Session, invoice_id: str) -> Session:
    """A second attempt whose invoice is another session's."""
    second = attempted(before, sender_invoice_no=f"TB2-{before.id}", now=NOW, deadline=NOW)
    return with_invoice(second, 2, InvoiceMade(id=invoice_id, qr_text="q"), NOW)
