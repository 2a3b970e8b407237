"""The MongoDB store with one of its safeguards taken away: the contract must notice every one.

That a commit compares versions is not among them: without it the unique ids of events hold just as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pymongo import MongoClient
from tests.stores.mongo_world import raw

from tulbur.ports import Unmatched
from tulbur.stores import (
    contract,
    mongo_deciding,
    mongo_link,
    mongo_migrate,
    mongo_outbox,
    mongo_worklist,
    mongo_writes,
)
from tulbur.stores import mongo_documents as documents
from tulbur.stores.mongo_harness import MongoHarness
from tulbur.stores.mongo_link import Work, database_name
from tulbur.stores.mongo_schema import PAYMENTS, SESSIONS

pytestmark = [pytest.mark.anyio, pytest.mark.store("mongodb")]


class Breaker:
    """Takes one safeguard away."""

    def __init__(self, url: str, patch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.patch = patch

    def no_transaction(self) -> None:
        """Every write at once and for ever."""
        self.patch.setattr(mongo_link, "Work", lambda database, _session=None: Work(database))

    def no_owner_of_payments(self) -> None:
        """A payment that goes to whoever writes last."""
        self.patch.setattr(mongo_writes, "_claim", mongo_writes._upsert)

    def no_memory_of_commits(self) -> None:
        """Was it my commit? Nobody knows."""
        sound = mongo_deciding._look

        async def forgetful(work: Work, changes: Any) -> Any:
            known = await sound(work, changes)
            known.commits.clear()
            return known

        self.patch.setattr(mongo_deciding, "_look", forgetful)

    def no_unique_key(self) -> None:
        """Idempotency keys held by reading alone."""
        client: MongoClient[Any]
        with MongoClient(self.url) as client:
            client.get_database(database_name(self.url))[SESSIONS].drop_index("key")

    def no_order_of_delivery(self) -> None:
        """Later events that do not wait for earlier ones."""
        self.patch.setattr("tulbur.stores.mongo_outbox.nothing_before", lambda *_: [])

    def no_thought_of_parked_events(self) -> None:
        """Blanking whoever has nothing to be delivered just now."""
        self.patch.setattr("tulbur.stores.mongo_outbox.UNTOLD", mongo_outbox.UNDELIVERED)

    def no_closed_payments(self) -> None:
        """A payment written anew by whoever reports it, as the first release does."""

        async def anew(work: Work, unmatched: Unmatched) -> None:
            document = documents.unmatched_document(unmatched)
            await work[PAYMENTS].replace_one({"_id": document["_id"]}, document, session=work.session)

        self.patch.setattr(mongo_worklist, "_write", anew)

    def no_looker_is_late(self) -> None:
        """Looks that are written whatever has come between."""

        async def written(work: Work, unmatched: Unmatched, before_due_at: int | None) -> bool:
            del before_due_at
            await mongo_worklist._write(work, unmatched)
            return True

        self.patch.setattr(mongo_worklist, "looked", written)


SAFEGUARDS = [
    (Breaker.no_transaction, "test_a_bad_pair_fails_alone"),
    (Breaker.no_owner_of_payments, "test_of_two_sessions_at_once_one_gets_the_payment"),
    (Breaker.no_memory_of_commits, "test_a_commit_whose_answer_was_lost_is_won_once"),
    (Breaker.no_unique_key, "test_of_two_ids_with_one_key_at_once_one_is_added"),
    (Breaker.no_thought_of_parked_events, "test_a_session_with_a_parked_event_is_not_blanked"),
    (Breaker.no_closed_payments, "test_a_closed_payment_is_off_the_list"),
    (Breaker.no_looker_is_late, "test_of_two_lookers_one_goes_on"),
    (Breaker.no_order_of_delivery, "test_later_events_of_a_session_wait_for_earlier_ones"),
]


@pytest.mark.parametrize(("take_away", "test"), SAFEGUARDS, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_safeguard_that_is_gone_is_missed(
    database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, take_away: Callable[[Breaker], None], test: str
) -> None:
    url = database("mongodb")
    mongo_migrate.up(url)
    harness = MongoHarness(lambda: url)
    harness._free.append(url)
    assert await contract.run(harness, only={test}) == {}
    take_away(Breaker(url, monkeypatch))
    assert set(await contract.run(harness, only={test})) == {test}
    async with raw(url) as left:
        await left[PAYMENTS].delete_many({})
