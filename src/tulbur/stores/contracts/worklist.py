"""What a store promises to those who decide where no rule can: what waits is listed until it is dealt with."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

import asyncio
from dataclasses import replace

from tulbur.core.reviewing import assigned
from tulbur.core.session import SECOND, Micros
from tulbur.core.settling import SeenPayment
from tulbur.core.steps import ACCEPT
from tulbur.ports import MOST_ROWS, Disposition, PaymentQuery, PaymentTaken, Store, Unmatched
from tulbur.stores.contracts.samples import AMOUNT, NOW, Part, answered, invoiced, paid, won

DUE: Micros = NOW + 3 * SECOND
NEXT: Micros = NOW + 60 * SECOND
LATER: Micros = NOW + 3600 * SECOND
HINT = Unmatched(payment_id="pay-1", seen_at=NOW, due_at=DUE, hinted_session_id="s-9")
FACTS = replace(
    HINT,
    due_at=NEXT,
    invoice_id="inv-9",
    amount=AMOUNT,
    status="PAID",
    method="P2P",
    wallet="khan",
    paid_at=NOW - SECOND,
    raw='{"payer": "Бат"}',
    tries=1,
)
NOTE = {"reference": "тушаал 12", "note": "paid back by hand", "by": "bat"}


async def listed(store: Store, disposition: Disposition, limit: int = 50) -> list[str]:
    """Every id on the list, fetched page by page."""
    seen: list[str] = []
    query = PaymentQuery(disposition=disposition, limit=limit)
    while page := await store.payments(query):
        assert len(page) <= limit
        seen += [one.payment_id for one in page]
        query = replace(query, cursor=(page[-1].seen_at, page[-1].payment_id))
    return seen


async def due(store: Store, now: Micros = LATER, limit: int = 10) -> list[str]:
    return [one.payment_id for one in await store.unmatched_due(now, limit)]


async def held(store: Store, id_: str, *, now: Micros = NOW) -> None:
    """A session that was paid by half, whose money is held."""
    before = await invoiced(store, id_, now=now)
    await won(store, before, answered(before, f"half-{id_}", amount=AMOUNT // 2, now=now))


async def owing(store: Store, id_: str, *, now: Micros = NOW) -> None:
    """A session that was paid twice, whose second payment is due back."""
    before = await paid(store, id_, now=now)
    await won(store, before, answered(before, f"pay-{id_}", f"twice-{id_}", now=now))


class WorkListContract(Part):
    async def test_money_that_is_held_is_counted(self) -> None:
        async with self.harness.open() as store:
            await paid(store, "s-0")
            await held(store, "s-1")
            await held(store, "s-2")
            stats = await store.stats(NOW)
            assert (stats.held_count, stats.held, stats.refund_due_count) == (2, AMOUNT, 0)

    async def test_each_payment_is_on_the_list_of_what_it_waits_for(self) -> None:
        async with self.harness.open() as store:
            await paid(store, "done")
            await held(store, "s-1")
            await owing(store, "s-2")
            await store.record_unmatched(HINT)
            assert await listed(store, Disposition.HELD) == ["half-s-1"]
            assert await listed(store, Disposition.REFUND_DUE) == ["twice-s-2"]
            assert await listed(store, Disposition.UNMATCHED) == ["pay-1"]

    async def test_a_listed_payment_shows_what_is_known(self) -> None:
        async with self.harness.open() as store:
            await held(store, "s-1")
            (one,) = await store.payments(PaymentQuery(disposition=Disposition.HELD))
            assert (one.session_id, one.invoice_id, one.amount) == ("s-1", "inv-s-1", AMOUNT // 2)
            assert (one.ordered, one.refund_due, one.refunded, one.held) == (0, 0, 0, AMOUNT // 2)
            assert (one.status, one.currency, one.closed_at, one.note) == ("PAID", "MNT", None, {})
            await store.record_unmatched(HINT)
            (bare,) = await store.payments(PaymentQuery(disposition=Disposition.UNMATCHED))
            assert (bare.session_id, bare.hinted_session_id, bare.amount, bare.held) == (None, "s-9", None, 0)
            await store.record_unmatched(FACTS)
            (known,) = await store.payments(PaymentQuery(disposition=Disposition.UNMATCHED))
            assert (known.amount, known.method, known.wallet, known.paid_at) == (AMOUNT, "P2P", "khan", NOW - SECOND)
            assert known.seen_at == NOW

    async def test_the_list_is_paged_oldest_first_though_times_are_equal(self) -> None:
        async with self.harness.open() as store:
            for n, id_ in ((2, "a"), (1, "d"), (1, "c"), (3, "b"), (1, "e")):
                await store.record_unmatched(replace(HINT, payment_id=id_, seen_at=NOW + n))
                await held(store, id_, now=NOW + n)
                await owing(store, f"o-{id_}", now=NOW + n)
            order = ["c", "d", "e", "a", "b"]
            for limit in (1, 2, 5, 50):
                assert await listed(store, Disposition.UNMATCHED, limit) == order
                assert await listed(store, Disposition.HELD, limit) == [f"half-{id_}" for id_ in order]
                assert await listed(store, Disposition.REFUND_DUE, limit) == [f"twice-o-{id_}" for id_ in order]

    async def test_the_pages_of_the_list_have_a_largest_size(self) -> None:
        async with self.harness.open() as store:
            for n in range(MOST_ROWS + 1):
                await store.record_unmatched(replace(HINT, payment_id=f"p-{n:03}"))
            query = PaymentQuery(disposition=Disposition.UNMATCHED, limit=10_000)
            assert len(await store.payments(query)) == MOST_ROWS
            assert len(await store.unmatched_due(LATER, 10_000)) == MOST_ROWS
            assert await store.payments(replace(query, limit=0)) == []
            assert await store.unmatched_due(LATER, 0) == []

    async def test_a_payment_without_a_session_is_found_by_its_id(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            await store.record_unmatched(HINT)
            assert await store.unmatched_payment("pay-1") == HINT
            assert await store.unmatched_payment("pay-s-1") is None
            assert await store.unmatched_payment("pay-x") is None

    async def test_what_is_due_is_looked_at_longest_due_first(self) -> None:
        async with self.harness.open() as store:
            for id_, at in (("a", 5), ("b", 3), ("c", 9), ("d", 3), ("e", 1)):
                await store.record_unmatched(replace(HINT, payment_id=id_, due_at=NOW + at))
            await store.record_unmatched(replace(HINT, payment_id="never", due_at=None))
            await paid(store)
            assert await due(store, NOW + 5) == ["e", "b", "d", "a"]
            assert await due(store, NOW + 5, 2) == ["e", "b"]
            assert await due(store, NOW) == []
            assert (await store.unmatched_due(NOW + 1, 1))[0] == replace(HINT, payment_id="e", due_at=NOW + 1)

    async def test_a_look_writes_its_facts_and_the_next_one(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await store.record_unmatched(HINT)
            assert await store.unmatched_looked(FACTS, DUE)
            assert await other.unmatched_payment("pay-1") == FACTS
            assert await due(store, DUE) == []
            assert await due(store, NEXT) == ["pay-1"]
            assert await store.unmatched_looked(replace(HINT, due_at=None, tries=2), NEXT)
            assert await other.unmatched_payment("pay-1") == replace(FACTS, due_at=None, tries=2)
            assert await due(store) == []
            assert await store.unmatched_looked(replace(HINT, due_at=NEXT, tries=3), None)
            assert await due(store) == ["pay-1"]

    async def test_a_look_never_takes_a_status_back(self) -> None:
        async with self.harness.open() as store:
            await store.record_unmatched(HINT)
            assert await store.unmatched_looked(FACTS, DUE)
            back = replace(FACTS, due_at=LATER, status="NEW", amount=1, tries=2)
            assert await store.unmatched_looked(back, NEXT)
            assert await store.unmatched_payment("pay-1") == replace(FACTS, due_at=LATER, tries=2)
            on = replace(FACTS, due_at=NEXT, status="REFUNDED", tries=3)
            assert await store.unmatched_looked(on, LATER)
            assert await store.unmatched_payment("pay-1") == on

    async def test_of_two_lookers_one_goes_on(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await store.record_unmatched(HINT)
            taking = replace(HINT, due_at=NEXT, tries=1)
            went = await asyncio.gather(*((store, other)[n % 2].unmatched_looked(taking, DUE) for n in range(6)))
            assert went.count(True) == 1
            assert not await store.unmatched_looked(replace(FACTS, due_at=LATER), DUE)
            assert await store.unmatched_payment("pay-1") == taking

    async def test_a_look_changes_nothing_that_has_a_session(self) -> None:
        async with self.harness.open() as store:
            await store.record_unmatched(HINT)
            before = await invoiced(store)
            stored = await won(store, before, answered(before, "pay-1"))
            assert not await store.unmatched_looked(FACTS, DUE)
            assert not await store.unmatched_looked(FACTS, None)
            assert not await store.unmatched_looked(replace(FACTS, payment_id="pay-x"), DUE)
            assert await store.by_payment("pay-1") == stored
            assert await due(store) == []
            assert await store.unmatched_payment("pay-x") is None

    async def test_a_closed_payment_is_off_the_list(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await store.record_unmatched(HINT)
            await store.unmatched_looked(FACTS, DUE)
            assert await store.close_unmatched("pay-1", now=LATER, note=NOTE)
            assert await listed(other, Disposition.UNMATCHED) == []
            assert await other.unmatched(10) == []
            assert await due(other) == []
            assert (await other.stats(NOW)).unmatched == 0
            assert await other.unmatched_payment("pay-1") == replace(FACTS, due_at=None, closed_at=LATER)
            assert not await other.unmatched_looked(replace(FACTS, due_at=NEXT), None)
            assert not await store.record_unmatched(replace(FACTS, due_at=NEXT))
            assert await due(other) == []
            before = await invoiced(store)
            await won(store, before, answered(before, "pay-1", amount=AMOUNT // 2))
            (one,) = await other.payments(PaymentQuery(disposition=Disposition.HELD))
            assert (one.closed_at, one.note) == (LATER, NOTE)

    async def test_a_payment_is_closed_once(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await store.record_unmatched(HINT)
            await paid(store)
            closing = (
                (store, other)[n % 2].close_unmatched("pay-1", now=NOW + n, note={**NOTE, "by": f"w-{n}"})
                for n in range(6)
            )
            assert (await asyncio.gather(*closing)).count(True) == 1
            assert not await store.close_unmatched("pay-s-1", now=NOW, note=NOTE)
            assert not await store.close_unmatched("pay-x", now=NOW, note=NOTE)

    async def test_a_closing_whose_answer_was_lost_is_done_once(self) -> None:
        for executed in (True, False):
            async with self.harness.open() as store:
                await store.record_unmatched(HINT)
                self.harness.lose_next_commit_answer(store, executed=executed)
                assert await store.close_unmatched("pay-1", now=NOW, note=NOTE)
                assert not await store.close_unmatched("pay-1", now=LATER, note=NOTE)

    async def test_a_closed_payment_may_still_be_claimed(self) -> None:
        async with self.harness.open() as store:
            await store.record_unmatched(FACTS)
            await store.close_unmatched("pay-1", now=LATER, note=NOTE)
            before = await invoiced(store)
            stored = await won(store, before, answered(before, "pay-1", amount=AMOUNT // 2))
            assert await store.by_payment("pay-1") == stored
            assert await store.unmatched_payment("pay-1") is None
            (one,) = await store.payments(PaymentQuery(disposition=Disposition.HELD))
            assert (one.payment_id, one.closed_at, one.note) == ("pay-1", LATER, NOTE)

    async def test_a_closed_payment_is_not_assigned(self) -> None:
        async with self.harness.open() as store:
            seen = SeenPayment(id="pay-1", amount=AMOUNT, currency="MNT", status="PAID")
            await store.record_unmatched(FACTS)
            before = await invoiced(store)
            after = assigned(before, seen, by="bat", note="", now=LATER, rules=ACCEPT)
            await store.close_unmatched("pay-1", now=LATER, note=NOTE)
            assert await store.commit(before, after) == PaymentTaken(frozenset({"pay-1"}))
            assert await store.commit_many([(before, after)]) == [PaymentTaken(frozenset({"pay-1"}))]
            assert await store.get("s-1") == before
            other = await invoiced(store, "s-2")
            new = assigned(other, replace(seen, id="pay-2"), by="bat", note="", now=LATER, rules=ACCEPT)
            stored = await won(store, other, new)
            assert await store.by_payment("pay-2") == stored
            # What is the session's own stays so, whatever becomes of it.
            await won(store, stored, answered(stored, "pay-2", amount=AMOUNT, status="REFUNDED"))

    async def test_new_money_opens_a_closed_payment(self) -> None:
        async with self.harness.open() as store:
            failed = replace(FACTS, status="FAILED")
            for id_, first, again in (
                ("bare", HINT, HINT),
                ("bare-paid", HINT, FACTS),
                ("failed", failed, FACTS),
                ("same", FACTS, FACTS),
                ("refunded", FACTS, replace(FACTS, status="REFUNDED")),
                ("hinted", FACTS, HINT),
            ):
                await store.record_unmatched(replace(first, payment_id=id_))
                assert await store.close_unmatched(id_, now=LATER, note=NOTE)
                assert not await store.record_unmatched(replace(again, payment_id=id_, due_at=NEXT))
            assert await listed(store, Disposition.UNMATCHED) == ["bare", "bare-paid", "failed"]
            assert sorted(await due(store)) == ["bare", "bare-paid", "failed"]
            listing = await store.payments(PaymentQuery(disposition=Disposition.UNMATCHED))
            assert [(one.closed_at, one.note) for one in listing] == [(None, NOTE)] * 3
            assert await store.close_unmatched("bare", now=LATER, note=NOTE)
