"""What a store promises about work: who does it, in which order, and that a lease ends by itself."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

import asyncio

from tulbur.core.session import SECOND, Reason, Session
from tulbur.core.steps import asked
from tulbur.ports import Store, StoredToken
from tulbur.stores.contracts.samples import LONG, NOW, Part, added, called_back, paid, won

LATER = NOW + 7200 * SECOND


async def looks(store: Store, id_: str, at: int) -> Session:
    """A stored session whose only look is due at `at`."""
    return await added(store, id_, expires_at=at)


def ids(sessions: list[Session]) -> list[str]:
    return [one.id for one in sessions]


class WorkContract(Part):
    async def test_due_sessions_are_claimed_longest_due_first(self) -> None:
        async with self.harness.open() as store:
            for id_, at in (("a", 5), ("b", 3), ("c", 9), ("d", 3), ("e", 1)):
                await looks(store, id_, NOW + at)
            claimed = await store.claim_due(NOW + 5, "w", 10, LONG)
            assert ids(claimed) == ["e", "b", "d", "a"]
            assert claimed[0] == await store.get("e")

    async def test_no_more_are_claimed_than_asked_for(self) -> None:
        async with self.harness.open() as store:
            for n in range(5):
                await looks(store, f"s-{n}", NOW + n)
            assert ids(await store.claim_due(LATER, "w", 2, LONG)) == ["s-0", "s-1"]
            assert ids(await store.claim_due(LATER, "w", 2, LONG)) == ["s-2", "s-3"]
            assert ids(await store.claim_due(LATER, "w", 2, LONG)) == ["s-4"]
            assert await store.claim_due(LATER, "w", 0, LONG) == []

    async def test_a_leased_session_is_claimed_by_nobody_else(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await looks(store, "s-1", NOW)
            assert ids(await store.claim_due(LATER, "w", 10, LONG)) == ["s-1"]
            assert await other.claim_due(LATER, "v", 10, LONG) == []
            assert await store.claim_due(LATER, "w", 10, LONG) == []

    async def test_a_lease_ends_by_itself(self) -> None:
        async with self.harness.open() as store:
            await looks(store, "s-1", NOW)
            for owner in ("w", "w", "v"):
                assert ids(await store.claim_due(LATER, owner, 10, 0)) == ["s-1"]

    async def test_a_commit_ends_the_lease_early(self) -> None:
        async with self.harness.open() as store:
            await looks(store, "s-1", NOW)
            (before,) = await store.claim_due(LATER, "w", 10, LONG)
            await won(store, before, called_back(before))
            assert ids(await store.claim_due(LATER, "v", 10, LONG)) == ["s-1"]

    async def test_a_lease_is_no_new_version(self) -> None:
        async with self.harness.open() as store:
            before = await looks(store, "s-1", NOW)
            assert await store.claim_due(LATER, "w", 10, LONG) == [before]
            await won(store, before, called_back(before))

    async def test_a_session_without_looks_is_not_due(self) -> None:
        async with self.harness.open() as store:
            await paid(store)
            assert await store.claim_due(LATER, "w", 10, LONG) == []
            assert (await store.stats(LATER)).checks_due == 0

    async def test_an_asked_question_moves_the_look(self) -> None:
        async with self.harness.open() as store:
            before = await looks(store, "s-1", NOW)
            await won(store, before, asked(before, Reason.DEADLINE, NOW + SECOND))
            assert await store.claim_due(NOW + 2 * SECOND, "w", 10, 0) == []
            assert ids(await store.claim_due(LATER, "w", 10, 0)) == ["s-1"]

    async def test_claims_at_once_share_nothing(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            for n in range(12):
                await looks(store, f"s-{n:02}", NOW + n)
            claims = await asyncio.gather(
                *((store, other)[n % 2].claim_due(LATER, f"w-{n}", 3, LONG) for n in range(6))
            )
            claimed = [id_ for claim in claims for id_ in ids(claim)]
            assert sorted(claimed) == [f"s-{n:02}" for n in range(12)]

    async def test_a_named_lease_has_one_owner(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            assert await store.lease("token", "a", LONG)
            assert not await other.lease("token", "b", LONG)
            assert await other.lease("sweep", "b", LONG)
            assert await store.lease("token", "a", LONG)
            assert await other.lease("Token", "b", LONG)

    async def test_a_named_lease_ends_by_itself(self) -> None:
        async with self.harness.open() as store:
            assert await store.lease("token", "a", 0)
            assert await store.lease("token", "b", LONG)
            assert not await store.lease("token", "a", LONG)

    async def test_a_named_lease_is_given_up_by_its_owner_only(self) -> None:
        async with self.harness.open() as store:
            assert await store.lease("token", "a", LONG)
            assert not await store.lease("token", "b", 0)
            assert not await store.lease("token", "b", LONG)
            assert await store.lease("token", "a", 0)
            assert await store.lease("token", "b", LONG)

    async def test_of_many_takers_at_once_one_has_the_lease(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            taken = await asyncio.gather(*((store, other)[n % 2].lease("token", f"w-{n}", LONG) for n in range(8)))
            assert taken.count(True) == 1

    async def test_a_token_is_kept_for_each_login(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            assert await store.token_get("SHOP") is None
            first, second = StoredToken("a" * 2000, "r", NOW), StoredToken("b", "", NOW + 1)
            await store.token_put("SHOP", first)
            await store.token_put("shop", second)
            assert await other.token_get("SHOP") == first
            await other.token_put("SHOP", second)
            assert await store.token_get("SHOP") == second

    async def test_a_lost_answer_takes_no_lease_and_no_token_away(self) -> None:
        for executed in (True, False):
            async with self.harness.open() as store:
                self.harness.lose_next_commit_answer(store, executed=executed)
                assert await store.lease("token", "a", LONG)
                assert not await store.lease("token", "b", LONG)

    async def test_a_working_store_answers_a_ping(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            await store.ping()
            await other.ping()
