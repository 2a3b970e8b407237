"""What a store promises about events: each public one gets a number no reader skips, and is delivered in order."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

import asyncio

from tulbur.core.session import PUBLIC_EVENTS, SECOND
from tulbur.ports import NumberedEvent, Store
from tulbur.stores.contracts.samples import (
    LONG,
    NOW,
    Part,
    added,
    answered,
    called_back,
    delivered,
    invoiced,
    paid,
    with_qr,
    won,
)


def names(claimed: list[NumberedEvent]) -> list[tuple[str, str]]:
    return [(one.session_id, one.event.type) for one in claimed]


async def numbers(store: Store) -> list[int]:
    return [one.no for one in await store.events(0, 200)]


class OutboxContract(Part):
    async def test_public_events_get_numbers_without_gaps(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            before = await invoiced(store)
            before = await won(store, before, called_back(before))
            stored = await won(store, before, answered(before, "pay-1"))
            history = await store.history("s-1", 200)
            public = [event for event in history if event.type in PUBLIC_EVENTS]
            assert len(public) < len(history)
            assert await store.events(0, 200) == []
            assert await store.publish(200) == len(public)
            assert await other.publish(200) == 0
            assert await other.events(0, 200) == [
                NumberedEvent(no, stored.id, event) for no, event in enumerate(public, 1)
            ]

    async def test_numbers_are_given_as_many_as_asked_for(self) -> None:
        async with self.harness.open() as store:
            for n in range(3):
                await added(store, f"s-{n}", now=NOW + n)
            assert await store.publish(2) == 2
            assert await numbers(store) == [1, 2]
            assert await store.publish(2) == 1
            assert [one.session_id for one in await store.events(0, 200)] == ["s-0", "s-1", "s-2"]
            assert [one.no for one in await store.events(1, 1)] == [2]
            assert await store.events(3, 10) == []

    async def test_a_reader_skips_nothing_that_was_committed_late(self) -> None:
        async with self.harness.open() as store:
            await added(store, "s-1", now=NOW + 9 * SECOND)
            await store.publish(200)
            cursor = (await store.events(0, 200))[-1].no
            await added(store, "s-2", now=NOW)
            assert await store.events(cursor, 200) == []
            await store.publish(200)
            assert names(await store.events(cursor, 200)) == [("s-2", "session.opened")]

    async def test_a_commit_alone_gives_no_number(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            assert await store.events(0, 200) == []
            assert await store.claim_events("w", 200, LONG) == []
            assert (await store.stats(NOW)).events_undelivered == 6

    async def test_a_session_keeps_its_order_though_clocks_differ(self) -> None:
        async with self.harness.open() as store:
            before = await added(store, "s-1", now=NOW + 60 * SECOND)
            await won(store, before, with_qr(before, now=NOW))
            await added(store, "s-2", now=NOW + 30 * SECOND)
            for _ in range(3):
                assert await store.publish(1) == 1
            own = [one.event.type for one in await store.events(0, 200) if one.session_id == "s-1"]
            assert own == ["session.opened", "session.invoiced"]

    async def test_publishers_at_once_give_each_number_once(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            for n in range(8):
                await added(store, f"s-{n}", now=NOW + n)
            counts = await asyncio.gather(*((store, other)[n % 2].publish(3) for n in range(6)))
            assert sum(counts) == 8
            assert await numbers(store) == list(range(1, 9))

    async def test_events_are_claimed_oldest_first(self) -> None:
        async with self.harness.open() as store:
            for n in (3, 1, 2):
                await added(store, f"s-{n}", now=NOW + n)
            await store.publish(200)
            assert names(await store.claim_events("w", 2, LONG)) == [
                ("s-1", "session.opened"),
                ("s-2", "session.opened"),
            ]
            assert names(await store.claim_events("v", 2, LONG)) == [("s-3", "session.opened")]
            assert await store.claim_events("w", 0, LONG) == []

    async def test_later_events_of_a_session_wait_for_earlier_ones(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await paid(store)
            await store.publish(200)
            delivered_types = []
            while claimed := await store.claim_events("w", 200, LONG):
                assert len(claimed) == 1
                assert await other.claim_events("v", 200, LONG) == []
                delivered_types.append(claimed[0].event.type)
                await store.events_done("w", [claimed[0].event.id])
            public = [one.event.type for one in await store.events(0, 200)]
            assert delivered_types == public

    async def test_a_lease_on_an_event_ends_by_itself(self) -> None:
        async with self.harness.open() as store:
            await added(store)
            await store.publish(200)
            first = await store.claim_events("w", 10, 0)
            assert len(first) == 1
            assert await store.claim_events("v", 10, LONG) == first
            assert await store.claim_events("w", 10, LONG) == []

    async def test_only_the_owner_of_the_lease_is_done(self) -> None:
        async with self.harness.open() as store:
            await added(store)
            await store.publish(200)
            (claimed,) = await store.claim_events("w", 10, 0)
            await store.events_done("v", [claimed.event.id])
            assert await store.claim_events("v", 10, LONG) == [claimed]
            await store.events_done("w", [claimed.event.id])
            assert (await store.stats(NOW)).events_undelivered == 1
            await store.events_done("v", [claimed.event.id, "evt_x"])
            assert (await store.stats(NOW)).events_undelivered == 0
            assert await store.claim_events("w", 10, LONG) == []

    async def test_events_for_nobody_are_read_but_never_claimed(self) -> None:
        async with self.harness.open() as store:
            await added(store)
            assert await store.publish(200, deliver=False) == 1
            assert len(await store.events(0, 200)) == 1
            assert (await store.stats(NOW)).events_undelivered == 0
            assert await store.claim_events("w", 10, LONG) == []

    async def test_claims_of_events_at_once_share_nothing(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            for n in range(8):
                await added(store, f"s-{n}", now=NOW + n)
            await store.publish(200)
            claims = await asyncio.gather(*((store, other)[n % 2].claim_events(f"w-{n}", 2, LONG) for n in range(6)))
            claimed = [one.session_id for claim in claims for one in claim]
            assert sorted(claimed) == [f"s-{n}" for n in range(8)]

    async def test_what_is_delivered_stays_readable(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            await delivered(store)
            assert await numbers(store) == [1, 2, 3, 4, 5, 6]
            assert (await store.stats(NOW)).events_undelivered == 0
            await added(store, "s-2")
            await store.publish(200)
            assert await numbers(store) == [1, 2, 3, 4, 5, 6, 7]
