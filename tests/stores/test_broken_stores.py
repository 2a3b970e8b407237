"""Stores that are broken in one way each: the contract must catch every one, by the test that is about that way."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from tulbur.core.session import Session
from tulbur.errors import CommitUnknown, Conflict
from tulbur.ports import CommitResult, Committed, NumberedEvent, PaymentTaken, SessionQuery, Unmatched
from tulbur.stores import contract, rows
from tulbur.stores.harnesses import LossyMemoryStore, MemoryHarness
from tulbur.stores.rows import Change, EventState

pytestmark = pytest.mark.anyio

T = TypeVar("T")

CAUGHT_BY: list[tuple[type[LossyMemoryStore], str]] = []


def caught_by(test: str) -> Callable[[type[LossyMemoryStore]], type[LossyMemoryStore]]:
    def register(store: type[LossyMemoryStore]) -> type[LossyMemoryStore]:
        CAUGHT_BY.append((store, test))
        return store

    return register


@caught_by("test_every_handle_reads_what_was_committed")
class StaleSnapshot(LossyMemoryStore):
    """Reads what it read first, like a transaction that was never ended."""

    def _session(self, session_id: str | None) -> Session | None:
        seen: dict[str | None, Session | None] = self.__dict__.setdefault("seen", {})
        if seen.get(session_id) is None:
            seen[session_id] = super()._session(session_id)
        return seen[session_id]


@caught_by("test_a_late_commit_is_lost_and_changes_nothing")
class LostRaceReportedAsWon(LossyMemoryStore):
    def _commit(self, change: Change) -> CommitResult:
        result = super()._commit(change)
        return Committed.WON if result is Committed.LOST else result


@caught_by("test_of_many_commits_at_once_one_is_won")
class ReadThenWrite(LossyMemoryStore):
    """Compares the version, waits, and then writes without comparing again."""

    async def commit(self, before: Session, after: Session) -> CommitResult:
        row = self.data.sessions.get(before.id)
        if row is None or row["version"] != before.version:
            return Committed.LOST
        await asyncio.sleep(0)
        current = self.data.sessions[before.id]["version"]
        self._write(Change(replace(before, version=current), after, self._new_id()))
        return Committed.WON


@caught_by("test_history_is_told_oldest_first")
class DroppedEvent(LossyMemoryStore):
    def _write(self, change: Change) -> None:
        super()._write(change)
        if change.version == 3:
            self.data.histories[change.after.id].pop()


@caught_by("test_a_late_commit_is_lost_and_changes_nothing")
class OrderWithoutSession(LossyMemoryStore):
    """Writes the orders first, and does not take them back when the race is lost."""

    def _commit(self, change: Change) -> CommitResult:
        result = super()._commit(change)
        for order in change.orders:
            self.data.orders[order.id] = rows.order_row(change.after.id, order)
        return result


@caught_by("test_a_payment_of_another_session_is_refused")
class PaymentCountedTwice(LossyMemoryStore):
    def _taken(self, change: Change) -> frozenset[str]:
        return frozenset()


@caught_by("test_a_payment_of_another_session_is_refused")
class TakenPaymentLeftOut(LossyMemoryStore):
    """Writes the rest of a commit of which one payment is taken."""

    def _commit(self, change: Change) -> CommitResult:
        result = super()._commit(change)
        if isinstance(result, PaymentTaken):
            self._write(change)
        return result


@caught_by("test_a_leased_session_is_claimed_by_nobody_else")
class LeaseNeverTaken(LossyMemoryStore):
    async def claim_due(self, now: int, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        return await super().claim_due(now, owner, limit, 0)


@caught_by("test_a_lease_ends_by_itself")
class LeaseNeverEnds(LossyMemoryStore):
    async def claim_due(self, now: int, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        return await super().claim_due(now, owner, limit, 10**6)


@caught_by("test_a_commit_ends_the_lease_early")
class CommitKeepsTheLease(LossyMemoryStore):
    def _write(self, change: Change) -> None:
        lease = self.data.sessions.get(change.after.id, {}).get("lease_until", 0)
        super()._write(change)
        self.data.sessions[change.after.id]["lease_until"] = lease


@caught_by("test_a_lease_is_no_new_version")
class LeaseCountedAsVersion(LossyMemoryStore):
    async def claim_due(self, now: int, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        claimed = await super().claim_due(now, owner, limit, lease_seconds)
        for session in claimed:
            self.data.sessions[session.id]["version"] += 1
        return claimed


@caught_by("test_due_sessions_are_claimed_longest_due_first")
class NewestDueFirst(LossyMemoryStore):
    async def claim_due(self, now: int, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        return (await super().claim_due(now, owner, limit, lease_seconds))[::-1]


@caught_by("test_a_blanked_session_keeps_every_key")
class RetentionFreesTheKey(LossyMemoryStore):
    def _write(self, change: Change) -> None:
        super()._write(change)
        if change.after.blanked_at is not None:
            self.data.keys.pop((change.after.scope, str(change.after.idempotency_key)), None)


@caught_by("test_a_blanked_session_keeps_every_key")
class RetentionDeletesPayments(LossyMemoryStore):
    def _write(self, change: Change) -> None:
        super()._write(change)
        if change.after.blanked_at is not None:
            for payment in change.after.payments:
                del self.data.payments[payment.id]


@caught_by("test_what_is_not_over_is_not_blanked_and_stands_in_nobodys_way")
class RetentionForgetsDebts(LossyMemoryStore):
    def _blankable(self, row: dict[str, Any], cutoffs: Any) -> bool:
        return super()._blankable({**row, "unsettled": 0}, cutoffs)


@caught_by("test_a_commit_whose_answer_was_lost_is_won_once")
class LostAnswerReadAsWon(LossyMemoryStore):
    async def commit(self, before: Session, after: Session) -> CommitResult:
        try:
            return self._send_commit(lambda: self._commit(Change(before, after, self._new_id())))
        except CommitUnknown:
            return Committed.WON


@caught_by("test_a_commit_whose_answer_was_lost_is_won_once")
class OwnCommitNotRecognised(LossyMemoryStore):
    """Infers from the version alone that somebody else was faster."""

    def _write(self, change: Change) -> None:
        super()._write(change)
        self.data.commits.clear()


@caught_by("test_a_lost_race_whose_answer_was_lost_is_lost")
class AnyCommitTakenForItsOwn(LossyMemoryStore):
    """Infers from a version that moved that its own commit moved it."""

    def _send_commit(self, write: Callable[[], T]) -> T:
        lost = self.lose is not None
        try:
            return super()._send_commit(write)
        finally:
            if lost:
                self.data.commits.update((self.last_id, id_) for id_ in self.data.sessions)

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        made, self.last_id = self._new_id, ""

        def remembered() -> str:
            self.last_id = made()
            return self.last_id

        self._new_id = remembered


@caught_by("test_an_addition_whose_answer_was_lost_is_made_once")
class OwnAdditionNotRecognised(LossyMemoryStore):
    def _add(self, change: Change) -> None:
        self.data.commits.clear()
        super()._add(change)


@caught_by("test_an_idempotency_key_is_taken_once_within_its_scope")
class KeyNotScoped(LossyMemoryStore):
    def _add(self, change: Change) -> None:
        super()._add(replace(change, after=replace(change.after, scope="")))


@caught_by("test_a_commit_alone_gives_no_number")
class NumberGivenByTheCommit(LossyMemoryStore):
    def _write(self, change: Change) -> None:
        super()._write(change)
        for row in rows.event_rows(change):
            if row["state"] == EventState.UNNUMBERED:
                self.data.numbers.append(row["id"])
                self.data.events[row["id"]].update(no=len(self.data.numbers), state=EventState.NUMBERED)


@caught_by("test_a_reader_skips_nothing_that_was_committed_late")
class CursorThatSkips(LossyMemoryStore):
    """Numbers by the time of the event, so that a late one comes before what was read already."""

    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        count = await super().publish(limit, deliver=deliver)
        self.data.numbers.sort(key=lambda id_: int(self.data.events[id_]["at"]))
        for no, id_ in enumerate(self.data.numbers, 1):
            self.data.events[id_]["no"] = no
        return count


@caught_by("test_a_session_keeps_its_order_though_clocks_differ")
class OrderByClock(LossyMemoryStore):
    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        await asyncio.sleep(0)
        rows_ = [row for row in self.data.events.values() if row["state"] == EventState.UNNUMBERED]
        for row in sorted(rows_, key=lambda row: int(row["at"]))[:limit]:
            self.data.numbers.append(row["id"])
            row.update(no=len(self.data.numbers), state=EventState.NUMBERED)
        return min(len(rows_), limit)


@caught_by("test_events_for_nobody_are_read_but_never_claimed")
class DeliversToNobody(LossyMemoryStore):
    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        return await super().publish(limit)


@caught_by("test_later_events_of_a_session_wait_for_earlier_ones")
class EventsOvertake(LossyMemoryStore):
    async def claim_events(self, owner: str, limit: int, lease_seconds: float) -> list[NumberedEvent]:
        for row in self.data.events.values():
            row["session_id"], row["own"] = row["id"], row["session_id"]
        try:
            claimed = await super().claim_events(owner, limit, lease_seconds)
        finally:
            for row in self.data.events.values():
                row["session_id"] = row["own"]
        return [replace(one, session_id=self.data.events[one.event.id]["own"]) for one in claimed]


@caught_by("test_only_the_owner_of_the_lease_is_done")
class AnybodyIsDone(LossyMemoryStore):
    async def events_done(self, owner: str, event_ids: Sequence[str]) -> None:
        for id_ in event_ids:
            if id_ in self.data.events:
                self.data.events[id_]["lease_owner"] = owner
        await super().events_done(owner, event_ids)


@caught_by("test_a_payment_without_a_session_is_claimed_by_the_first_commit")
class UnmatchedNeverClaimed(LossyMemoryStore):
    def _taken(self, change: Change) -> frozenset[str]:
        known = self.data.payments
        others = (p.id for p in change.payments if p.id in known and known[p.id]["session_id"] != change.after.id)
        return frozenset(others)


@caught_by("test_later_facts_are_added_to_a_payment_without_a_session")
class UnmatchedGoesBackwards(LossyMemoryStore):
    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        known = await super().record_unmatched(unmatched)
        self.data.payments[unmatched.payment_id].update(rows.unmatched_row(unmatched))
        return known


@caught_by("test_a_claimed_payment_stays_claimed")
class UnmatchedTakesBack(LossyMemoryStore):
    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        known = await super().record_unmatched(unmatched)
        self.data.payments[unmatched.payment_id]["session_id"] = None
        return known


@caught_by("test_a_bad_pair_fails_alone")
class BadPairDropsAll(LossyMemoryStore):
    async def commit_many(self, pairs: Sequence[tuple[Session, Session]]) -> list[CommitResult | Conflict]:
        for _, after in pairs:
            if any(self.data.payments.get(p.id, {}).get("session_id") not in (None, after.id) for p in after.payments):
                return [Committed.LOST for _ in pairs]
        return await super().commit_many(pairs)


@caught_by("test_a_bad_pair_fails_alone")
class BadPairLeavesTraces(LossyMemoryStore):
    def _commit_alone(self, change: Change) -> CommitResult | Conflict:
        result = super()._commit_alone(change)
        if result is not Committed.WON:
            for payment in change.payments:
                self.data.payments.setdefault(payment.id, rows.payment_row(change.after.id, payment))
        return result


@caught_by("test_a_batch_is_answered_in_the_order_asked")
class BatchAnsweredInItsOwnOrder(LossyMemoryStore):
    async def commit_many(self, pairs: Sequence[tuple[Session, Session]]) -> list[CommitResult | Conflict]:
        return await super().commit_many(sorted(pairs, key=lambda pair: pair[0].id))


@caught_by("test_what_is_kept_is_shared_with_nobody")
class LiveObjects(LossyMemoryStore):
    def _session(self, session_id: str | None) -> Session | None:
        live: dict[tuple[Any, Any], Session | None] = self.__dict__.setdefault("live", {})
        key = (session_id, self.data.sessions.get(str(session_id), {}).get("version"))
        if key not in live:
            live[key] = super()._session(session_id)
        return live[key]


@caught_by("test_ids_are_compared_as_bytes")
class IdsWithoutTrailingSpaces(LossyMemoryStore):
    """As a PAD SPACE collation compares them."""

    async def get(self, session_id: str) -> Session | None:
        stored = {id_.rstrip(): id_ for id_ in sorted(self.data.sessions)}
        return await super().get(stored.get(session_id.rstrip(), ""))


@caught_by("test_every_page_is_whole_though_times_are_equal")
class PagesByTimeAlone(LossyMemoryStore):
    async def find(self, query: SessionQuery) -> list[Session]:
        cursor = (query.cursor[0], "") if query.cursor else None
        return await super().find(replace(query, cursor=cursor))


@caught_by("test_a_named_lease_is_given_up_by_its_owner_only")
class LeaseGivenUpByAnybody(LossyMemoryStore):
    async def lease(self, name: str, owner: str, seconds: float) -> bool:
        if seconds == 0:
            self.data.leases.pop(name, None)
        return await super().lease(name, owner, seconds)


@caught_by("test_an_invoice_of_another_session_is_refused")
class InvoiceMovesOver(LossyMemoryStore):
    def _check_keys(self, change: Change) -> None:
        pass


@caught_by("test_a_refused_session_leaves_nothing_behind")
class RefusedSessionKeepsItsEvents(LossyMemoryStore):
    def _add(self, change: Change) -> None:
        try:
            super()._add(change)
        except Conflict:
            for row in rows.event_rows(change):
                self.data.events.setdefault(row["id"], row)
            raise


@pytest.mark.parametrize(("store", "test"), CAUGHT_BY, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_broken_store_is_caught(store: type[LossyMemoryStore], test: str) -> None:
    failed = await contract.run(MemoryHarness(store))
    assert test in failed, f"{store.__name__} fails {sorted(failed)}"


def test_the_contract_names_what_it_catches() -> None:
    assert {test for _, test in CAUGHT_BY} <= set(contract.names())
    assert len(CAUGHT_BY) >= 30
