"""What a store keeps: sessions as they were, under ids and keys that are compared as bytes and taken once."""

# ruff: noqa: S101 - a contract asserts
from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

from tulbur.core.session import SECOND, Status
from tulbur.errors import Conflict, SessionExists
from tulbur.ports import Committed, SessionQuery
from tulbur.stores.contracts.samples import (
    Part,
    added,
    answered,
    called_back,
    invoiced,
    refusal,
    session,
    told,
    with_qr,
    won,
)

LIKE = ("S1", "s1", "S1 ", " S1", "Ｓ1", "С1", "é", "e\u0301", "ß", "ss")


class KeepingContract(Part):
    async def test_a_session_comes_back_as_it_was_added(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            new = session(idempotency_key="k", scope="shop", body_digest="d")
            await store.add(new)
            assert await store.get("s-1") == new.committed()
            assert await other.get("s-1") == new.committed()
            assert await store.get("s-2") is None

    async def test_what_is_kept_is_shared_with_nobody(self) -> None:
        async with self.harness.open() as store:
            metadata = {"list": [1]}
            await store.add(session(metadata=metadata))
            metadata["list"].append(2)
            first = await store.get("s-1")
            assert first
            assert first.metadata == {"list": [1]}
            cast("dict[str, Any]", first.metadata)["list"].append(3)
            (event,) = await store.history("s-1", 10)
            cast("dict[str, Any]", event.data)["more"] = 1
            second = await store.get("s-1")
            assert second
            assert second.metadata == {"list": [1]}
            assert "more" not in (await store.history("s-1", 10))[0].data

    async def test_ids_are_compared_as_bytes(self) -> None:
        async with self.harness.open() as store:
            for id_ in LIKE:
                before = await added(store, id_, user_id=id_, scope="s", idempotency_key=id_)
                before = await won(store, before, with_qr(before, invoice_id=id_))
                await won(store, before, answered(before, id_))
            for id_ in LIKE:
                for found in (await store.get(id_), await store.by_invoice(id_), await store.by_payment(id_)):
                    assert found
                    assert found.id == id_
                assert [one.id for one in await store.find(SessionQuery(user_id=id_))] == [id_]
                assert await refusal(store, session("other", scope="s", idempotency_key=id_)) == id_
            assert await store.get("s1  ") is None

    async def test_an_id_is_taken_once(self) -> None:
        async with self.harness.open() as store:
            before = await added(store)
            assert await refusal(store, session(user_id="u-2")) == "s-1"
            assert await store.get("s-1") == before
            assert await told(store, "s-1") == ["session.opened"]

    async def test_an_idempotency_key_is_taken_once_within_its_scope(self) -> None:
        async with self.harness.open() as store:
            await added(store, "s-1", scope="a", idempotency_key="k")
            await added(store, "s-2", scope="b", idempotency_key="k")
            await added(store, "s-3", scope="", idempotency_key="k")
            assert await refusal(store, session("s-4", scope="b", idempotency_key="k")) == "s-2"
            assert await store.get("s-4") is None
            assert await told(store, "s-4") == []

    async def test_sessions_without_a_key_do_not_meet(self) -> None:
        async with self.harness.open() as store:
            await added(store, "s-1", scope="a")
            await added(store, "s-2", scope="a")
            assert len(await store.find(SessionQuery())) == 2

    async def test_of_two_ids_with_one_key_at_once_one_is_added(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            new = [session(f"s-{n}", scope="a", idempotency_key="k") for n in range(12)]
            handles = (store, other)
            results = await asyncio.gather(
                *(handles[n % 2].add(one) for n, one in enumerate(new)), return_exceptions=True
            )
            stored = await store.find(SessionQuery())
            assert len(stored) == 1
            assert results.count(None) == 1
            refused = [result for result in results if isinstance(result, SessionExists)]
            assert [one.session_id for one in refused] == [stored[0].id] * 11

    async def test_a_refused_session_leaves_nothing_behind(self) -> None:
        async with self.harness.open() as store:
            await added(store, "s-1", scope="a", idempotency_key="k")
            await refusal(store, session("s-2", scope="a", idempotency_key="k"))
            assert (await store.stats(0)).by_status[Status.PENDING] == 1
            # Its invoice number and event ids are free.
            await added(store, "s-2", scope="a", idempotency_key="k2")
            assert await told(store, "s-2") == ["session.opened"]

    async def test_an_invoice_finds_its_session(self) -> None:
        async with self.harness.open() as store:
            stored = await invoiced(store)
            await invoiced(store, "s-2")
            assert await store.by_invoice("inv-s-1") == stored
            assert await store.by_invoice("inv-x") is None

    async def test_an_invoice_number_and_an_event_find_their_session(self) -> None:
        async with self.harness.open() as store:
            stored = await invoiced(store)
            await invoiced(store, "S-1")
            assert await store.owner_of("TB-s-1") == "s-1"
            assert await store.owner_of("TB-S-1") == "S-1"
            for event in await store.history(stored.id, 10):
                assert await store.owner_of(event.id) == "s-1"
            assert await store.owner_of("s-1") is None

    async def test_an_invoice_number_finds_its_session_before_its_id_is_known(self) -> None:
        async with self.harness.open() as store:
            stored = await added(store)
            await added(store, "s-2")
            assert await store.by_sender("TB-s-1") == stored
            for other in ("TB-s-1 ", "tb-s-1", "TB-s-", ""):
                assert await store.by_sender(other) is None
            known = await won(store, stored, with_qr(stored))
            assert await store.by_sender("TB-s-1") == known

    async def test_an_invoice_of_another_session_is_refused(self) -> None:
        async with self.harness.open() as store:
            first = await invoiced(store)
            before = await added(store, "s-2")
            try:
                await store.commit(before, with_qr(before, invoice_id="inv-s-1"))
            except Conflict:
                pass
            else:
                raise AssertionError("two sessions hold one invoice")
            assert await store.get("s-2") == before
            assert await store.by_invoice("inv-s-1") == first
            assert await told(store, "s-2") == ["session.opened"]

    async def test_history_is_told_oldest_first(self) -> None:
        async with self.harness.open() as store:
            before = await invoiced(store)
            await won(store, before, called_back(before))
            assert await told(store, "s-1") == ["session.opened", "session.invoiced", "callback.received"]
            assert [event.type for event in await store.history("s-1", 2)] == ["session.opened", "session.invoiced"]
            assert await store.history("s-x", 10) == []
            (first, *_) = await store.history("s-1", 1)
            assert first == session().news[0]

    async def test_a_commit_that_tells_nothing_is_a_mistake(self) -> None:
        async with self.harness.open() as store:
            before = await added(store)
            wrong = (
                (before, before),
                (session("s-1"), called_back(before)),
                (before, called_back(session("s-2"))),
                (before, replace(called_back(before), user_id="u-2")),
            )
            for pair in wrong:
                try:
                    await store.commit(*pair)
                except AssertionError:
                    continue
                raise LookupError("it was committed")
            assert await store.get("s-1") == before

    async def test_every_handle_reads_what_was_committed(self) -> None:
        async with self.harness.open() as store, self.harness.reopen(store) as other:
            before = await added(store)
            assert await other.get("s-1") == before
            for n in range(4):
                after = called_back(before, f"pay-{n}", now=before.created_at + n * SECOND)
                assert await (store, other)[n % 2].commit(before, after) is Committed.WON
                before = after.committed()
                assert await store.get("s-1") == before
                assert await other.get("s-1") == before
            assert before.version == 5
