"""Stores broken in what the desk, the deliverer and upkeep rely on: the contract must catch every one of them too."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import pytest

from tulbur.core.session import Session
from tulbur.ports import (
    UNTOLD,
    Disposition,
    EventDelivery,
    Leave,
    ListedPayment,
    NumberedEvent,
    PaymentQuery,
    Replayed,
    SweepRun,
    Unmatched,
)
from tulbur.stores import contract, rows
from tulbur.stores.harnesses import LossyMemoryStore, MemoryHarness
from tulbur.stores.rows import Change, EventState

pytestmark = pytest.mark.anyio


class ClosedStaysListed(LossyMemoryStore):
    async def payments(self, query: PaymentQuery) -> list[ListedPayment]:
        closed = {id_: row.pop("closed_at", None) for id_, row in self.data.payments.items()}
        listed = await super().payments(query)
        for id_, at in closed.items():
            self.data.payments[id_]["closed_at"] = at
        return listed


class ListedByTimeAlone(LossyMemoryStore):
    async def payments(self, query: PaymentQuery) -> list[ListedPayment]:
        cursor = (query.cursor[0], "~") if query.cursor else None
        return await super().payments(replace(query, cursor=cursor))


class HeldTakenForDue(LossyMemoryStore):
    async def payments(self, query: PaymentQuery) -> list[ListedPayment]:
        if query.disposition is Disposition.HELD:
            query = replace(query, disposition=Disposition.REFUND_DUE)
        return await super().payments(query)


class ListWithoutEnd(LossyMemoryStore):
    async def unmatched_due(self, now: int, limit: int) -> list[Unmatched]:
        return [one for _ in range(limit // 200 + 1) for one in await super().unmatched_due(now, limit)]


class ClaimedIsFound(LossyMemoryStore):
    async def unmatched_payment(self, payment_id: str) -> Unmatched | None:
        row = self.data.payments.get(payment_id)
        return rows.read_unmatched(row) if row else None


class NewestLookFirst(LossyMemoryStore):
    async def unmatched_due(self, now: int, limit: int) -> list[Unmatched]:
        return (await super().unmatched_due(now, limit))[::-1]


class LookForgetsItsCount(LossyMemoryStore):
    async def unmatched_looked(self, unmatched: Unmatched, before_due_at: int | None) -> bool:
        return await super().unmatched_looked(replace(unmatched, tries=0), before_due_at)


class LookTakesStatusBack(LossyMemoryStore):
    async def unmatched_looked(self, unmatched: Unmatched, before_due_at: int | None) -> bool:
        done = await super().unmatched_looked(unmatched, before_due_at)
        if done:
            self.data.payments[unmatched.payment_id].update(status=unmatched.status, amount=unmatched.amount)
        return done


class EveryLookerGoesOn(LossyMemoryStore):
    async def unmatched_looked(self, unmatched: Unmatched, before_due_at: int | None) -> bool:
        row = self.data.payments.get(unmatched.payment_id, {})
        return await super().unmatched_looked(unmatched, row.get("due_at"))


class LookTakesFromASession(LossyMemoryStore):
    async def unmatched_looked(self, unmatched: Unmatched, before_due_at: int | None) -> bool:
        if row := self.data.payments.get(unmatched.payment_id):
            row["session_id"], row["due_at"] = None, before_due_at
        return await super().unmatched_looked(unmatched, before_due_at)


class ClosedAgain(LossyMemoryStore):
    def _close(self, payment_id: str, now: int, note: str) -> bool:
        if row := self.data.payments.get(payment_id):
            row["closed_at"] = None
        return super()._close(payment_id, now, note)


class OwnClosingNotRecognised(LossyMemoryStore):
    def _close(self, payment_id: str, now: int, note: str) -> bool:
        row = self.data.payments.get(payment_id, {})
        return row.get("closed_at") is None and super()._close(payment_id, now, note)


class ClosedForEver(LossyMemoryStore):
    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        row = dict(self.data.payments.get(unmatched.payment_id, {}))
        known = await super().record_unmatched(unmatched)
        if row.get("closed_at") is not None:
            self.data.payments[unmatched.payment_id].update(closed_at=row["closed_at"], due_at=None)
        return known


class ClosedIsAssigned(LossyMemoryStore):
    def _taken(self, change: Change) -> frozenset[str]:
        return super()._taken(change) - change.assigned


class NoteLostByTheClaim(LossyMemoryStore):
    def _write(self, change: Any) -> None:
        super()._write(change)
        for payment in change.payments:
            self.data.payments[payment.id].pop("note", None)


class AttemptsNotCounted(LossyMemoryStore):
    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: int | None) -> None:
        await super().events_failed(owner, event_ids, retry_at=retry_at)
        for id_ in event_ids:
            self.data.events.get(id_, {})["attempts"] = 0


class RetriedAtOnce(LossyMemoryStore):
    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: int | None) -> None:
        await super().events_failed(owner, event_ids, retry_at=None if retry_at is None else 1)


class LeaseOutlivesFailure(LossyMemoryStore):
    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: int | None) -> None:
        ends = {id_: self.data.events[id_]["lease_until"] for id_ in event_ids if id_ in self.data.events}
        await super().events_failed(owner, event_ids, retry_at=retry_at)
        for id_, end in ends.items():
            self.data.events[id_]["lease_until"] = max(end, retry_at or 0)


class AnybodyFails(LossyMemoryStore):
    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: int | None) -> None:
        for id_ in event_ids:
            self.data.events.get(id_, {})["lease_owner"] = owner
        await super().events_failed(owner, event_ids, retry_at=retry_at)


class RetryIsOvertaken(LossyMemoryStore):
    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: int | None) -> None:
        await super().events_failed(owner, event_ids, retry_at=retry_at)
        for id_ in event_ids:
            self.data.waiting.pop(id_, None)


class ParkedBlocks(LossyMemoryStore):
    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: int | None) -> None:
        await super().events_failed(owner, event_ids, retry_at=retry_at)
        self.data.waiting.update(dict.fromkeys(id_ for id_ in event_ids if id_ in self.data.events))


class ParkedPagesOverlap(LossyMemoryStore):
    async def parked(self, after_no: int, limit: int) -> list[NumberedEvent]:
        return await super().parked(max(after_no - 1, 0), limit)


class ReplayLeavesParked(LossyMemoryStore):
    async def replay_events(
        self, after_no: int, *, since: int, before: int, limit: int, parked_only: bool = False
    ) -> Replayed:
        parked = [row for row in self.data.events.values() if row["state"] == EventState.PARKED and not parked_only]
        for row in parked:
            row["state"] = EventState.PRIVATE
        done = await super().replay_events(after_no, since=since, before=before, limit=limit, parked_only=parked_only)
        for row in parked:
            row["state"] = EventState.PARKED
        return done


class ReplayEndsLeases(LossyMemoryStore):
    async def replay_events(
        self, after_no: int, *, since: int, before: int, limit: int, parked_only: bool = False
    ) -> Replayed:
        done = await super().replay_events(after_no, since=since, before=before, limit=limit, parked_only=parked_only)
        for row in self.data.events.values():
            row["lease_until"] = 0
        return done


class ReplayOfAllTime(LossyMemoryStore):
    async def replay_events(
        self, after_no: int, *, since: int, before: int, limit: int, parked_only: bool = False
    ) -> Replayed:
        return await super().replay_events(after_no, since=0, before=10**18, limit=limit, parked_only=parked_only)


class ReplayTrustsClocks(LossyMemoryStore):
    """Halves the numbers as if no event had ever been committed late."""

    async def replay_events(
        self, after_no: int, *, since: int, before: int, limit: int, parked_only: bool = False
    ) -> Replayed:
        first = max(after_no, bisect_left(self._numbered_after(0), since, key=itemgetter("at")))
        return await super().replay_events(first, since=since, before=before, limit=limit, parked_only=parked_only)


class ReplayFromTheBeginning(LossyMemoryStore):
    async def replay_events(
        self, after_no: int, *, since: int, before: int, limit: int, parked_only: bool = False
    ) -> Replayed:
        examined = self._numbered_after(after_no)[:limit]
        if examined and examined[-1]["at"] < since:
            return Replayed(0, examined[-1]["no"])
        return await super().replay_events(after_no, since=since, before=before, limit=limit, parked_only=parked_only)


class ReplayTakesDelivered(LossyMemoryStore):
    async def replay_events(
        self, after_no: int, *, since: int, before: int, limit: int, parked_only: bool = False
    ) -> Replayed:
        return await super().replay_events(after_no, since=since, before=before, limit=limit)


class ReplayWithoutLimit(LossyMemoryStore):
    async def replay_events(
        self, after_no: int, *, since: int, before: int, limit: int, parked_only: bool = False
    ) -> Replayed:
        return await super().replay_events(after_no, since=since, before=before, limit=200, parked_only=parked_only)


class PrivateIsToldToo(LossyMemoryStore):
    async def deliveries(self, session_id: str, limit: int) -> list[EventDelivery]:
        return [rows.delivery(self.data.events[id_]) for id_ in self.data.histories.get(session_id, [])][:limit]


class NoTimeOfDelivery(LossyMemoryStore):
    async def events_done(self, owner: str, event_ids: Sequence[str]) -> None:
        await super().events_done(owner, event_ids)
        for id_ in event_ids:
            self.data.events.get(id_, {})["lease_until"] = 0


class NotSentIsTold(LossyMemoryStore):
    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        done = await super().publish(limit, deliver=deliver)
        for row in self.data.events.values():
            if row["state"] == EventState.DELIVERED:
                row["lease_until"] = row["at"]
        return done


class SweepKeptOnce(LossyMemoryStore):
    async def sweep_put(self, run: SweepRun) -> None:
        if run.id not in self.data.sweeps:
            await super().sweep_put(run)


class OldestSweepFirst(LossyMemoryStore):
    async def sweeps(self, limit: int, before: tuple[int, str] | None = None) -> list[SweepRun]:
        return (await super().sweeps(limit, before))[::-1]


class UnfinishedSweepCounts(LossyMemoryStore):
    async def swept_until(self) -> int | None:
        return max((row["window_end"] for row in self.data.sweeps.values()), default=None)


class CountsWhatIsNotOver(LossyMemoryStore):
    async def blankable(self, *, finished_before: int, late_before: int, limit: int, leave: Leave = UNTOLD) -> int:
        cutoffs: Mapping[Any, int] = rows.cutoffs(finished_before, late_before)
        return min(sum(row["status"] in cutoffs for row in self.data.sessions.values()), limit)


class CountsOnePage(LossyMemoryStore):
    async def blankable(self, *, finished_before: int, late_before: int, limit: int, leave: Leave = UNTOLD) -> int:
        return await super().blankable(
            finished_before=finished_before, late_before=late_before, limit=min(limit, 200), leave=leave
        )


class ParkedIsBlanked(LossyMemoryStore):
    def _blankable(self, row: dict[str, Any], cutoffs: Any, leave: Leave) -> bool:
        parked = [one for one in self.data.events.values() if one["state"] == EventState.PARKED]
        for one in parked:
            one["state"] = EventState.DELIVERED
        over = super()._blankable(row, cutoffs, leave)
        for one in parked:
            one["state"] = EventState.PARKED
        return over


class LeavesNobodyAlone(LossyMemoryStore):
    def _blankable(self, row: dict[str, Any], cutoffs: Any, leave: Leave) -> bool:
        return super()._blankable(row, cutoffs, replace(leave, ids=frozenset()))


class AnswersOfOpenOnesGo(LossyMemoryStore):
    async def blank_unmatched(self, payment_ids: Sequence[str]) -> None:
        for id_ in payment_ids:
            self.data.payments[id_]["raw"] = ""


class EveryLateSession(LossyMemoryStore):
    async def late_invoices(self, *, late_before: int, limit: int, leave: Leave = UNTOLD) -> list[Session]:
        over = self._finished(dict.fromkeys(rows.LATE, late_before))[:limit]
        return [rows.read_session(row["document"], row["version"]) for row in over]


class LateInvoicesOfAnyOrder(LossyMemoryStore):
    async def late_invoices(self, *, late_before: int, limit: int, leave: Leave = UNTOLD) -> list[Session]:
        found = await super().late_invoices(late_before=late_before, limit=200, leave=leave)
        return found[::-1][:limit]


CAUGHT_BY: list[tuple[type[LossyMemoryStore], str]] = [
    (ClosedStaysListed, "test_a_closed_payment_is_off_the_list"),
    (ListedByTimeAlone, "test_the_list_is_paged_oldest_first_though_times_are_equal"),
    (HeldTakenForDue, "test_each_payment_is_on_the_list_of_what_it_waits_for"),
    (ListWithoutEnd, "test_the_pages_of_the_list_have_a_largest_size"),
    (ClaimedIsFound, "test_a_payment_without_a_session_is_found_by_its_id"),
    (NewestLookFirst, "test_what_is_due_is_looked_at_longest_due_first"),
    (LookForgetsItsCount, "test_a_look_writes_its_facts_and_the_next_one"),
    (LookTakesStatusBack, "test_a_look_never_takes_a_status_back"),
    (EveryLookerGoesOn, "test_of_two_lookers_one_goes_on"),
    (LookTakesFromASession, "test_a_look_changes_nothing_that_has_a_session"),
    (ClosedAgain, "test_a_payment_is_closed_once"),
    (OwnClosingNotRecognised, "test_a_closing_whose_answer_was_lost_is_done_once"),
    (ClosedForEver, "test_new_money_opens_a_closed_payment"),
    (ClosedIsAssigned, "test_a_closed_payment_is_not_assigned"),
    (NoteLostByTheClaim, "test_a_closed_payment_may_still_be_claimed"),
    (AttemptsNotCounted, "test_an_attempt_that_failed_is_counted"),
    (RetriedAtOnce, "test_an_event_waits_for_its_retry"),
    (LeaseOutlivesFailure, "test_a_failure_ends_the_lease"),
    (AnybodyFails, "test_only_the_owner_of_the_lease_has_failed"),
    (RetryIsOvertaken, "test_later_events_wait_while_an_earlier_one_waits_for_its_retry"),
    (ParkedBlocks, "test_a_parked_event_is_seen_and_in_nobodys_way"),
    (ParkedPagesOverlap, "test_parked_events_are_paged_by_their_numbers"),
    (ReplayLeavesParked, "test_what_was_delivered_or_parked_is_delivered_again"),
    (ReplayEndsLeases, "test_a_replay_that_is_repeated_changes_nothing_more"),
    (ReplayOfAllTime, "test_a_replay_keeps_to_its_time"),
    (ReplayTrustsClocks, "test_a_replay_finds_what_was_committed_late"),
    (ReplayFromTheBeginning, "test_a_replay_of_the_recent_passes_over_the_old"),
    (ReplayTakesDelivered, "test_a_replay_of_parked_events_leaves_the_others"),
    (ReplayWithoutLimit, "test_a_replay_looks_at_no_more_than_asked_for"),
    (PrivateIsToldToo, "test_how_far_the_shop_was_told_is_kept_of_each_event"),
    (NoTimeOfDelivery, "test_when_an_event_was_delivered_is_kept"),
    (NotSentIsTold, "test_nobody_is_said_to_have_been_told_what_was_not_to_be_sent"),
    (SweepKeptOnce, "test_a_sweep_is_kept_and_kept_up"),
    (OldestSweepFirst, "test_sweeps_are_listed_newest_first"),
    (UnfinishedSweepCounts, "test_the_latest_complete_sweep_says_until_when"),
    (CountsWhatIsNotOver, "test_what_would_be_blanked_is_counted"),
    (CountsOnePage, "test_more_may_be_counted_than_fit_a_page"),
    (ParkedIsBlanked, "test_a_session_with_a_parked_event_is_not_blanked"),
    (LeavesNobodyAlone, "test_who_is_to_be_left_alone_is"),
    (AnswersOfOpenOnesGo, "test_the_raw_answer_of_a_closed_payment_is_taken_out"),
    (EveryLateSession, "test_late_sessions_with_an_open_invoice_are_found"),
    (LateInvoicesOfAnyOrder, "test_late_invoices_are_those_of_the_next_to_be_blanked"),
]


@pytest.mark.parametrize(("store", "test"), CAUGHT_BY, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_broken_store_is_caught(store: type[LossyMemoryStore], test: str) -> None:
    failed = await contract.run(MemoryHarness(store), only={test})
    assert set(failed) == {test}


def test_the_contract_names_what_it_catches() -> None:
    assert {test for _, test in CAUGHT_BY} <= set(contract.names())
