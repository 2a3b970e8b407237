"""What a store promises about deliveries that fail: they are tried again in order, put aside, and replayed."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

from dataclasses import replace

from tulbur.core.session import PUBLIC_EVENTS, SECOND, Micros
from tulbur.ports import MOST_ROWS, NumberedEvent, Store, Telling
from tulbur.stores.contracts.samples import (
    LONG,
    NOW,
    Part,
    added,
    called_back,
    delivered,
    gone,
    invoiced,
    paid,
    told,
    won,
)

PAST: Micros = SECOND
"""Long ago by the clock of any store."""
FUTURE: Micros = 10**17
"""Not yet by the clock of any store."""


async def failed(store: Store, claimed: list[NumberedEvent], *, retry_at: Micros | None) -> None:
    await store.events_failed("w", [one.event.id for one in claimed], retry_at=retry_at)


async def claim(store: Store, owner: str = "w", limit: int = 200) -> list[NumberedEvent]:
    return await store.claim_events(owner, limit, LONG)


async def replayed(
    store: Store, *, since: Micros = 0, before: Micros = FUTURE, limit: int = 2, parked_only: bool = False
) -> int:
    """Replay everything as whoever calls it does; how many there were."""
    count, after = 0, 0
    for _ in range(1000):
        done = await store.replay_events(after, since=since, before=before, limit=limit, parked_only=parked_only)
        count += done.count
        if done.last_no == after:
            return count
        assert done.last_no > after
        after = done.last_no
    raise AssertionError("the replay does not end")


class DeliveryContract(Part):
    async def test_an_attempt_that_failed_is_counted(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await added(store)
            await store.publish(200)
            for attempts in range(3):
                (one,) = await claim(store)
                assert one.attempts == attempts
                await failed(store, [one], retry_at=PAST)
            assert [one.attempts for one in await other.events(0, 10)] == [3]
            assert (await other.stats(NOW)).events_undelivered == 1

    async def test_an_event_waits_for_its_retry(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await added(store)
            await store.publish(200)
            claimed = await claim(store)
            await failed(store, claimed, retry_at=FUTURE)
            assert await claim(store) == []
            assert await claim(other, "v") == []
            assert (await store.stats(NOW)).events_undelivered == 1
            await added(store, "s-2")
            await store.publish(200)
            assert [one.session_id for one in await claim(store)] == ["s-2"]

    async def test_a_failure_ends_the_lease(self) -> None:
        async with self.harness.open() as store:
            await added(store)
            await store.publish(200)
            claimed = await claim(store)
            await failed(store, claimed, retry_at=PAST)
            assert await claim(store, "v") == [replace(one, attempts=1) for one in claimed]

    async def test_only_the_owner_of_the_lease_has_failed(self) -> None:
        async with self.harness.open() as store:
            await added(store)
            await store.publish(200)
            claimed = await claim(store)
            await store.events_failed("v", [claimed[0].event.id, "evt_x"], retry_at=None)
            assert (await store.stats(NOW)).events_parked == 0
            assert [one.attempts for one in await store.events(0, 10)] == [0]
            await store.events_done("w", [claimed[0].event.id])
            await failed(store, claimed, retry_at=PAST)
            assert await claim(store) == []
            assert (await store.stats(NOW)).events_undelivered == 0

    async def test_later_events_wait_while_an_earlier_one_waits_for_its_retry(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            await store.publish(200)
            await failed(store, await claim(store), retry_at=FUTURE)
            assert await claim(store) == []

    async def test_a_parked_event_is_seen_and_in_nobodys_way(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await paid(store)
            await store.publish(200)
            (first,) = await claim(store)
            await failed(store, [first], retry_at=None)
            assert await other.parked(0, 10) == [replace(first, attempts=1)]
            stats = await other.stats(NOW)
            assert (stats.events_parked, stats.events_undelivered) == (1, 5)
            (second,) = await claim(other)
            assert second.no == first.no + 1
            await other.events_done("w", [second.event.id])
            await delivered(store)
            assert (await store.stats(NOW)).events_undelivered == 0
            assert await claim(store) == []
            assert [one.no for one in await store.parked(0, 10)] == [first.no]

    async def test_parked_events_are_paged_by_their_numbers(self) -> None:
        async with self.harness.open() as store:
            for n in range(5):
                await added(store, f"s-{n}", now=NOW + n)
            await store.publish(200)
            await failed(store, await claim(store, limit=4), retry_at=None)
            assert [one.no for one in await store.parked(0, 2)] == [1, 2]
            assert [one.no for one in await store.parked(2, 10)] == [3, 4]
            assert await store.parked(4, 10) == []
            assert await store.parked(0, 0) == []

    async def test_what_was_delivered_or_parked_is_delivered_again(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await paid(store)
            await store.publish(200)
            await failed(store, await claim(store), retry_at=None)
            await delivered(store)
            assert await replayed(store) == 6
            stats = await other.stats(NOW)
            assert (stats.events_parked, stats.events_undelivered) == (0, 6)
            order = []
            while claimed := await claim(other):
                order += [(one.no, one.attempts) for one in claimed]
                await other.events_done("w", [one.event.id for one in claimed])
            assert order == [(no, 0) for no in range(1, 7)]

    async def test_a_replay_that_is_repeated_changes_nothing_more(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            await delivered(store)
            assert await replayed(store) == 6
            assert await replayed(store, limit=200) == 0
            first = await claim(store)
            assert await replayed(store) == 0
            assert await claim(store, "v") == []
            await store.events_done("w", [one.event.id for one in first])
            assert await replayed(store) == 1

    async def test_a_replay_keeps_to_its_time(self) -> None:
        async with self.harness.open() as store:
            for n in range(6):
                await added(store, f"s-{n}", now=NOW + n * SECOND)
            await delivered(store)
            assert await replayed(store, since=NOW + SECOND, before=NOW + 4 * SECOND) == 3
            assert [one.session_id for one in await claim(store)] == ["s-1", "s-2", "s-3"]
            assert await replayed(store, since=NOW + 6 * SECOND) == 0
            assert await replayed(store, since=NOW + 5 * SECOND) == 1

    async def test_a_replay_finds_what_was_committed_late(self) -> None:
        async with self.harness.open() as store:
            for id_, minutes in (("a", 40), ("b", 0), ("c", 10), ("d", 50), ("e", 20)):
                await added(store, id_, now=NOW + minutes * 60 * SECOND)
                await delivered(store)
            assert await replayed(store, since=NOW + 30 * 60 * SECOND) == 2
            assert [one.session_id for one in await claim(store)] == ["a", "d"]

    async def test_a_replay_of_the_recent_passes_over_the_old(self) -> None:
        async with self.harness.open() as store:
            day = 24 * 3600 * SECOND
            for n in range(30):
                await added(store, f"s-{n}", now=NOW + n * day)
            await delivered(store)
            done = await store.replay_events(0, since=NOW + 28 * day, before=FUTURE, limit=5)
            assert (done.count, done.last_no) == (2, 30)

    async def test_a_replay_of_parked_events_leaves_the_others(self) -> None:
        async with self.harness.open() as store:
            for n in range(7):
                await added(store, f"s-{n}", now=NOW + n)
            await store.publish(200)
            claimed = await claim(store)
            await failed(store, claimed[1::2], retry_at=None)
            await delivered(store)
            await store.events_done("w", [one.event.id for one in claimed])
            assert await replayed(store, parked_only=True, since=NOW + 2) == 2
            assert [one.session_id for one in await claim(store)] == ["s-3", "s-5"]
            assert [one.session_id for one in await store.parked(0, 10)] == ["s-1"]

    async def test_a_replay_looks_at_no_more_than_asked_for(self) -> None:
        async with self.harness.open() as store:
            for n in range(MOST_ROWS + 1):
                await added(store, f"s-{n}", now=NOW + n)
            await delivered(store)
            done = await store.replay_events(0, since=0, before=FUTURE, limit=3)
            assert (done.count, done.last_no) == (3, 3)
            done = await store.replay_events(0, since=0, before=FUTURE, limit=0)
            assert (done.count, done.last_no) == (0, 0)
            done = await store.replay_events(0, since=0, before=FUTURE, limit=10_000)
            assert (done.count, done.last_no) == (MOST_ROWS - 3, MOST_ROWS)

    async def test_how_far_the_shop_was_told_is_kept_of_each_event(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            before = await paid(store, "s-1")
            await won(store, before, called_back(before))
            await gone(store, "s-2")
            public = [one.event.type for one in await other.deliveries("s-1", 200)]
            assert public == [one for one in await told(store, "s-1") if one in PUBLIC_EVENTS]
            assert {one.state for one in await other.deliveries("s-1", 200)} == {Telling.WAITING}
            assert {one.no for one in await other.deliveries("s-1", 200)} == {None}
            await store.publish(200)
            claimed = await claim(store)
            first = next(one for one in claimed if one.session_id == "s-1")
            await failed(store, claimed, retry_at=FUTURE)
            waiting = (await other.deliveries("s-1", 200))[0]
            assert (waiting.event.id, waiting.no, waiting.attempts) == (first.event.id, first.no, 1)
            assert (waiting.state, waiting.retry_at, waiting.delivered_at) == (Telling.WAITING, FUTURE, None)

    async def test_when_an_event_was_delivered_is_kept(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await paid(store)
            await store.publish(200)
            await failed(store, await claim(store), retry_at=None)
            assert [one.state for one in await other.deliveries("s-1", 1)] == [Telling.PARKED]
            taken = await claim(store)
            sent = [one for one in await other.deliveries("s-1", 200) if one.event.id == taken[0].event.id]
            assert [(one.state, one.retry_at) for one in sent] == [(Telling.WAITING, None)]
            await delivered(store)
            await store.events_done("w", [one.event.id for one in taken])
            await delivered(store)
            done = (await other.deliveries("s-1", 200))[1:]
            assert {one.state for one in done} == {Telling.DELIVERED}
            assert all(one.delivered_at and one.retry_at is None for one in done)
            assert await replayed(store) > 0
            assert {one.state for one in await other.deliveries("s-1", 200)} == {Telling.WAITING}
            assert await store.deliveries("nobody", 200) == await store.deliveries("s-1", 0) == []

    async def test_nobody_is_said_to_have_been_told_what_was_not_to_be_sent(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            await store.publish(200, deliver=False)
            assert {(one.state, one.delivered_at) for one in await store.deliveries("s-1", 200)} == {
                (Telling.ENDED, None)
            }

    async def test_private_events_are_not_replayed(self) -> None:
        async with self.harness.open() as store:
            await invoiced(store)
            await gone(store, "s-2")
            history = [event.id for id_ in ("s-1", "s-2") for event in await store.history(id_, 200)]
            await delivered(store)
            public = [one.event.id for one in await store.events(0, 200)]
            assert await replayed(store) == len(public) <= len(history)
