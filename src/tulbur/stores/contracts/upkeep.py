"""What a store promises to upkeep: sweeps are on record, and it can be said beforehand what retention will take."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

from dataclasses import replace
from typing import Any

from tulbur.core.custody import Custody
from tulbur.core.refunding import refund_requested
from tulbur.core.session import SECOND, Micros, Session
from tulbur.core.steps import cancelled
from tulbur.ports import MOST_COUNTED, MOST_ROWS, Leave, SessionQuery, Store, SweepRun, Unmatched
from tulbur.stores.contracts.samples import (
    LONG,
    NOW,
    Part,
    added,
    answered,
    called_back,
    delivered,
    gone,
    invoiced,
    paid,
    with_qr,
    won,
)

HOUR: Micros = 3600 * SECOND
YEAR: Micros = NOW + 365 * 24 * HOUR
RUN = SweepRun(id="sweep-1", started_at=NOW, start=NOW - HOUR, end=NOW, reason="daily")


async def blankable(store: Store, *, paid_before: Micros = YEAR, late_before: Micros = YEAR, limit: int = 10) -> int:
    return await store.blankable(finished_before=paid_before, late_before=late_before, limit=limit)


async def _stored(store: Store, id_: str) -> Session:
    found = await store.get(id_)
    assert found
    return found


async def blank(store: Store, limit: int = 10) -> int:
    return await store.blank(finished_before=YEAR, late_before=YEAR, now=YEAR, limit=limit)


async def late(store: Store, late_before: Micros = YEAR, limit: int = 10) -> list[str]:
    return sorted(one.id for one in await store.late_invoices(late_before=late_before, limit=limit))


class UpkeepContract(Part):
    async def test_a_sweep_is_kept_and_kept_up(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            assert await store.sweeps(10) == []
            await store.sweep_put(RUN)
            assert await other.sweeps(10) == [RUN]
            done = replace(
                RUN,
                ended_at=NOW + SECOND,
                end=NOW + SECOND,
                reason="outage",
                complete=True,
                report={"seen": 3, "foreign": [{"id": "Бат"}]},
            )
            await other.sweep_put(done)
            assert await store.sweeps(10) == [done]
            await other.sweep_put(done)
            assert await store.sweeps(10) == [done]

    async def test_sweeps_are_listed_newest_first(self) -> None:
        async with self.harness.open() as store:
            for n, id_ in ((2, "a"), (1, "c"), (1, "b"), (3, "d"), (1, "e")):
                await store.sweep_put(replace(RUN, id=id_, started_at=NOW + n))
            seen: list[str] = []
            before = None
            while page := await store.sweeps(2, before):
                seen += [run.id for run in page]
                before = (page[-1].started_at, page[-1].id)
            assert seen == ["d", "a", "e", "c", "b"]
            assert await store.sweeps(0) == []

    async def test_the_pages_of_sweeps_have_a_largest_size(self) -> None:
        async with self.harness.open() as store:
            for n in range(MOST_ROWS + 1):
                await store.sweep_put(replace(RUN, id=f"sweep-{n}"))
            assert len(await store.sweeps(10_000)) == MOST_ROWS

    async def test_the_latest_complete_sweep_says_until_when(self) -> None:
        async with self.harness.open() as store:
            assert await store.swept_until() is None
            await store.sweep_put(RUN)
            assert await store.swept_until() is None
            for n, complete in ((3, True), (9, False), (5, True), (4, True)):
                await store.sweep_put(replace(RUN, id=f"sweep-{n}", end=NOW + n, complete=complete))
            assert await store.swept_until() == NOW + 5

    async def test_what_would_be_blanked_is_counted(self) -> None:
        async with self.harness.open() as store:
            for n in range(3):
                await paid(store, f"paid-{n}", now=NOW + n)
            await gone(store, "late")
            await gone(store, "cancelled", cancel=True)
            await invoiced(store, "pending")
            looking = await paid(store, "looking")
            await won(store, looking, called_back(looking))
            assert await blankable(store) == 0
            await delivered(store)
            assert await blankable(store) == 5
            assert await blankable(store, late_before=NOW) == 3
            assert await blankable(store, paid_before=NOW) == 2
            assert await blankable(store, limit=4) == 4
            assert await blankable(store, limit=0) == 0
            assert await blankable(store, limit=10 * MOST_COUNTED) == 5
            assert await blank(store) == 5
            assert await blankable(store) == 0

    async def test_more_may_be_counted_than_fit_a_page(self) -> None:
        async with self.harness.open() as store:
            for n in range(MOST_ROWS + 1):
                await paid(store, f"s-{n}")
            await delivered(store)
            assert await blankable(store, limit=1000) == MOST_ROWS + 1

    async def test_a_session_with_a_parked_event_is_not_blanked(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            await store.publish(200)
            claimed = await store.claim_events("w", 1, LONG)
            await store.events_failed("w", [claimed[0].event.id], retry_at=None)
            await delivered(store)
            assert await blankable(store) == 0
            assert await blank(store) == 0
            assert await store.replay_events(0, since=0, before=YEAR, limit=1, parked_only=True)
            await delivered(store)
            assert await blank(store) == 1

    async def test_who_is_to_be_left_alone_is(self) -> None:
        async with self.harness.open() as store:
            for n in range(3):
                await paid(store, f"s-{n}", now=NOW + n)
                await gone(store, f"g-{n}", now=NOW + n)
            leave = Leave(ids=frozenset({"s-0", "g-0"}), untold=False)
            ask: Any = {"finished_before": YEAR, "late_before": YEAR}
            assert await blankable(store) == 0, "nobody was told anything"
            assert await store.blankable(**ask, limit=10, leave=leave) == 4
            late = await store.late_invoices(late_before=YEAR, limit=1, leave=leave)
            assert [session.id for session in late] == ["g-1"]
            assert await store.unreadable(**ask, limit=10, leave=leave) == []
            assert await store.blank(**ask, now=YEAR, limit=10, leave=replace(leave, payable=True)) == 2
            assert await store.blank(**ask, now=YEAR, limit=10, leave=leave) == 2
            whole = [id_ for id_ in ("s-0", "s-1", "g-0", "g-1") if not (await _stored(store, id_)).blanked_at]
            assert whole == ["s-0", "g-0"]

    async def test_the_raw_answer_of_a_closed_payment_is_taken_out(self) -> None:
        async with self.harness.open() as store:
            facts = Unmatched(payment_id="p-1", seen_at=NOW, due_at=None, amount=5, status="PAID", raw="{}")
            for n in range(4):
                await store.record_unmatched(replace(facts, payment_id=f"p-{n}", seen_at=NOW + n))
            for n in range(3):
                await store.close_unmatched(f"p-{n}", now=NOW + (1 + n) * HOUR, note={"by": "bat"})
            assert await store.closed_unmatched(NOW + 3 * HOUR, 10) == ["p-0", "p-1"]
            assert await store.closed_unmatched(NOW + 3 * HOUR, 1) == ["p-0"]
            assert await store.closed_unmatched(YEAR, 0) == []
            await store.blank_unmatched(["p-0", "p-2", "p-3"])
            assert await store.closed_unmatched(YEAR, 10) == ["p-1"]
            found = [await store.unmatched_payment(id_) for id_ in ("p-0", "p-3")]
            assert [one and (one.raw, one.amount) for one in found] == [("", 5), ("{}", 5)]

    async def test_what_is_not_over_is_not_blanked_and_stands_in_nobodys_way(self) -> None:
        async with self.harness.open() as store:
            for n, custody in enumerate((Custody.FOLLOWED, Custody.HANDED_OVER)):
                theirs = await paid(store, f"theirs-{n}", now=NOW + n)
                await won(store, theirs, replace(called_back(theirs), looks=(), custody=custody))
            card = await paid(store, "card", now=NOW + 2)
            await won(store, card, refund_requested(card, "pay-card", 1_00, by="Сараа", note="", now=NOW + 9))
            hint = await paid(store, "hint", now=NOW + 3)
            await won(store, hint, replace(called_back(hint), looks=()))
            await paid(store, "over", now=NOW + HOUR)
            await delivered(store)
            assert await blankable(store) == 1
            assert await blank(store, limit=1) == 1
            for id_ in ("theirs-0", "theirs-1", "card", "hint"):
                kept = await store.get(id_)
                assert kept
                assert kept.items
            assert await blank(store) == 0

    async def test_late_sessions_with_an_open_invoice_are_found(self) -> None:
        async with self.harness.open() as store:
            await gone(store, "expired")
            await gone(store, "cancelled", cancel=True)
            settled = await gone(store, "paid")
            await won(store, settled, answered(settled, "pay-1", now=NOW + 9 * HOUR))
            await invoiced(store, "pending")
            before = await added(store, "woken")
            before = await won(store, before, cancelled(before, NOW + SECOND))
            await won(store, before, with_qr(before))
            await delivered(store)
            assert await late(store) == ["expired", "woken"]
            assert await late(store, NOW) == []
            assert await late(store, limit=0) == []
            (first, _) = await store.late_invoices(late_before=YEAR, limit=10)
            assert first == await store.get(first.id)

    async def test_late_invoices_are_those_of_the_next_to_be_blanked(self) -> None:
        async with self.harness.open() as store:
            for n in range(5):
                await gone(store, f"s-{n}", now=NOW + n)
            await delivered(store)
            seen: list[str] = []
            for _ in range(5):
                found = await late(store, limit=2)
                assert len(found) <= 2
                seen += found
                before = await blankable(store)
                await blank(store, limit=2)
                assert before - await blankable(store) == len(found)
            assert seen == [f"s-{n}" for n in range(5)]

    async def test_sessions_are_found_by_when_they_were_made(self) -> None:
        async with self.harness.open() as store:
            for n in range(5):
                await added(store, f"s-{n}", now=NOW + n)
            query = SessionQuery(created_after=NOW, created_before=NOW + 4)
            assert [one.id for one in await store.find(query)] == ["s-3", "s-2", "s-1"]
            page = await store.find(replace(query, cursor=(NOW + 3, "s-3")))
            assert [one.id for one in page] == ["s-2", "s-1"]
