"""What a store promises to those who look after it: finding, counting, and forgetting people but no key."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

import asyncio
from dataclasses import replace

from tulbur.core.retention import blanked
from tulbur.core.session import PUBLIC_EVENTS, SECOND, ExceptionName, Session, Status
from tulbur.ports import MOST_ROWS, Committed, PaymentTaken, SessionQuery, Store
from tulbur.stores.contracts.samples import (
    AMOUNT,
    NOW,
    Part,
    added,
    answered,
    called_back,
    delivered,
    gone,
    invoiced,
    paid,
    refusal,
    session,
    told,
    won,
)

HOUR = 3600 * SECOND
YEAR = NOW + 365 * 24 * HOUR


async def found(store: Store, query: SessionQuery) -> list[str]:
    return [one.id for one in await store.find(query)]


async def blank(store: Store, *, paid_before: int = YEAR, late_before: int = YEAR, limit: int = 10) -> int:
    return await store.blank(finished_before=paid_before, late_before=late_before, now=YEAR, limit=limit)


class ConsoleContract(Part):
    async def test_sessions_are_listed_newest_first(self) -> None:
        async with self.harness.open() as store:
            for n in (2, 3, 1):
                await added(store, f"s-{n}", now=NOW + n)
            listed = await store.find(SessionQuery())
            assert [one.id for one in listed] == ["s-3", "s-2", "s-1"]
            assert listed[0] == await store.get("s-3")

    async def test_every_page_is_whole_though_times_are_equal(self) -> None:
        async with self.harness.open() as store:
            expected = sorted(f"s-{n}" for n in range(7))[::-1]
            for id_ in expected[::-1]:
                await added(store, id_)
            seen: list[str] = []
            query = SessionQuery(limit=3)
            while page := await store.find(query):
                seen += [one.id for one in page]
                query = replace(query, cursor=(page[-1].created_at, page[-1].id))
            assert seen == expected

    async def test_a_page_has_a_largest_size(self) -> None:
        async with self.harness.open() as store:
            for n in range(MOST_ROWS + 1):
                await added(store, f"s-{n}", now=NOW + n)
            assert len(await store.find(SessionQuery(limit=10_000))) == MOST_ROWS
            assert len(await store.claim_due(YEAR, "w", 10_000, 0)) == MOST_ROWS
            assert await store.publish(10_000) == MOST_ROWS
            assert len(await store.events(0, 10_000)) == MOST_ROWS
            assert len(await store.claim_events("w", 10_000, 0)) == MOST_ROWS

    async def test_sessions_are_found_by_what_they_are(self) -> None:
        async with self.harness.open() as store:
            await added(store, "s-1", user_id="a")
            await paid(store, "s-2", now=NOW + 1, user_id="b")
            await paid(store, "s-3", now=NOW + 2, user_id="a")
            await gone(store, "s-4", now=NOW + 3)
            assert await found(store, SessionQuery(status=Status.PAID)) == ["s-3", "s-2"]
            assert await found(store, SessionQuery(status=Status.EXPIRED)) == ["s-4"]
            assert await found(store, SessionQuery(user_id="a")) == ["s-3", "s-1"]
            assert await found(store, SessionQuery(user_id="a", status=Status.PENDING)) == ["s-1"]
            assert await found(store, SessionQuery(created_after=NOW + 1)) == ["s-4", "s-3"]
            assert await found(store, SessionQuery(user_id="A")) == []

    async def test_sessions_are_found_by_each_of_their_exceptions(self) -> None:
        async with self.harness.open() as store:
            await paid(store, "s-0")
            for n, cancel in ((1, False), (2, True)):
                closed = await gone(store, f"s-{n}", cancel=cancel, now=NOW + n)
                closed = await won(store, closed, answered(closed, f"p-{n}", now=NOW + 9 * HOUR))
                await won(store, closed, answered(closed, f"p-{n}", f"q-{n}", now=NOW + 9 * HOUR))
            assert await found(store, SessionQuery(exception=ExceptionName.LATE)) == ["s-2", "s-1"]
            assert await found(store, SessionQuery(exception=ExceptionName.AFTER_CANCEL)) == ["s-2"]
            assert await found(store, SessionQuery(exception=ExceptionName.PAID_TWICE, limit=1)) == ["s-2"]
            assert await found(store, SessionQuery(exception=ExceptionName.PAID_TWICE, cursor=(NOW + 2, "s-2"))) == [
                "s-1"
            ]
            assert await found(store, SessionQuery(exception=ExceptionName.REFUNDED)) == []
            assert (await store.stats(NOW)).by_exception == {
                ExceptionName.LATE: 2,
                ExceptionName.AFTER_CANCEL: 1,
                ExceptionName.PAID_TWICE: 2,
            }

    async def test_everything_is_counted(self) -> None:
        async with self.harness.open() as store:
            await added(store, "s-1", now=NOW - 25 * HOUR)
            await invoiced(store, "s-2", now=NOW - 23 * HOUR)
            await gone(store, "s-3")
            await paid(store, "s-4")
            stats = await store.stats(NOW)
            assert stats.by_status == {
                Status.PENDING: 2, Status.PAID: 1, Status.EXPIRED: 1, Status.CANCELLED: 0
            }  # fmt: skip
            assert stats.created_24h == 3
            assert stats.orders == 2
            assert stats.checks_due == 2
            assert (stats.refund_due_count, stats.refund_due, stats.unmatched) == (0, 0, 0)
            assert stats.loads == {}

    async def test_loads_of_a_day_are_summed_over_all_processes(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await store.tally(NOW - 25 * HOUR, {"cache": 100})
            await store.tally(NOW - 2 * HOUR, {"cache": 2, "database": 1})
            await asyncio.gather(*((store, other)[n % 2].tally(NOW, {"cache": 1}) for n in range(10)))
            assert (await other.stats(NOW)).loads == {"cache": 12, "database": 1}

    async def test_a_finished_session_is_blanked(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            before = await paid(store, scope="a", idempotency_key="k", body_digest="d")
            await delivered(store)
            assert await blank(store) == 1
            after = await other.get("s-1")
            assert after == blanked(before, YEAR).committed()
            assert (after.items, after.shipping, after.metadata, after.description, after.return_url) == (
                (),
                {},
                {},
                "",
                None,
            )
            assert not any(attempt.qr_text or attempt.links for attempt in after.attempts)
            assert not any(payment.raw for payment in after.payments)
            assert after.blanked_at == YEAR
            assert (await told(store, "s-1"))[-1] == "session.blanked"
            assert "session.blanked" not in PUBLIC_EVENTS
            assert await blank(store) == 0

    async def test_a_blanked_session_keeps_every_key(self) -> None:
        async with self.harness.open() as store:
            before = await paid(store, scope="a", idempotency_key="k")
            await delivered(store)
            await blank(store)
            for one in (
                await store.get("s-1"),
                await store.by_invoice("inv-s-1"),
                await store.by_payment("pay-s-1"),
            ):
                assert one
                assert (one.id, one.amount, one.status) == ("s-1", AMOUNT, Status.PAID)
            assert [await store.order(order.id) for order in before.orders] == [
                ("s-1", order) for order in before.orders
            ]
            for again in (session("s-1"), session("s-9", scope="a", idempotency_key="k")):
                assert await refusal(store, again) == "s-1"
            second = await invoiced(store, "s-2")
            assert await store.commit(second, answered(second, "pay-s-1")) == PaymentTaken(frozenset({"pay-s-1"}))
            assert (await store.stats(NOW)).orders == 2

    async def test_a_blanked_session_takes_later_money(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            await delivered(store)
            await blank(store)
            before = await store.get("s-1")
            assert before
            stored = await won(store, before, answered(before, "pay-s-1", "pay-2"))
            assert await store.by_payment("pay-2") == stored
            assert (await store.stats(NOW)).refund_due == AMOUNT

    async def test_a_commit_from_before_the_blanking_is_lost(self) -> None:
        async with self.harness.open() as store:
            before = await paid(store)
            await delivered(store)
            await blank(store)
            assert await store.commit(before, called_back(before)) is Committed.LOST

    async def test_each_status_has_its_own_time(self) -> None:
        async with self.harness.open() as store:
            await paid(store, "s-1")
            await gone(store, "s-2")
            await gone(store, "s-3", cancel=True)
            await delivered(store)
            assert await blank(store, paid_before=NOW, late_before=NOW) == 0
            assert await blank(store, paid_before=NOW, late_before=YEAR) == 2
            assert await self._blanked(store) == ["s-2", "s-3"]
            assert await blank(store, paid_before=YEAR, late_before=NOW) == 1

    async def test_no_more_are_blanked_than_asked_for(self) -> None:
        async with self.harness.open() as store:
            for n in range(3):
                await paid(store, f"s-{n}", now=NOW + n)
            await delivered(store)
            assert [await blank(store, limit=2) for _ in range(3)] == [2, 1, 0]

    async def test_what_is_unfinished_is_not_blanked(self) -> None:
        async with self.harness.open() as store:
            await invoiced(store, "pending")
            owing = await paid(store, "owing")
            await won(store, owing, answered(owing, "pay-owing", "pay-more"))
            looking = await paid(store, "looking")
            await won(store, looking, called_back(looking))
            held = await invoiced(store, "held")
            await won(store, held, answered(held, "pay-held", amount=AMOUNT // 2))
            await delivered(store)
            await paid(store, "untold")
            await paid(store, "numbered")
            assert await blank(store) == 0
            await store.publish(200)
            assert await blank(store) == 0
            assert await self._blanked(store) == []

    async def _blanked(self, store: Store) -> list[str]:
        everything: list[Session] = await store.find(SessionQuery(limit=200))
        return sorted(one.id for one in everything if one.blanked_at is not None)
