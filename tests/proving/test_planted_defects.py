"""The oracle can fail: each of these defects, planted into the parts on trial, is caught within 2,000 seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from proving.faulty_store import FaultyStore, TrueStore
from proving.schedules import Recipe, Verdict, run
from proving.shrinking import shrunk
from proving.uses import Use, chosen
from proving.world import SOUND, Parts
from tulbur.core import refunding as refund_rules
from tulbur.core import retention, reviewing, steps
from tulbur.core import settling as rules
from tulbur.core.session import Session, Status
from tulbur.core.settling import Evidence
from tulbur.errors import CommitUnknown, ProviderUnavailable, StoreUnavailable
from tulbur.payments import Payments, belonging, listing, refunding
from tulbur.payments import settling as use_case
from tulbur.payments.delivering import Delivered
from tulbur.payments.desk import Desk
from tulbur.payments.listing import Listing
from tulbur.ports import CommitResult, Committed, NumberedEvent, Provider, Spooled
from tulbur.stores import memory
from tulbur.stores.memory_data import leased
from tulbur.stores.rows import Change, EventState, numbered
from tulbur.worker import Deliverer, Replayer

MOST_SEEDS = 2000


def failing(parts: Parts = SOUND, use: Use | None = None) -> Iterator[Verdict]:
    """The runs that break a law, by seed; those that make no `use` of the broken part are passed over."""
    for seed in range(MOST_SEEDS):
        if use is not None and use not in chosen(Random(f"{seed} uses")):
            continue
        verdict = run(Recipe(seed), parts=parts)
        if verdict.broken:
            yield verdict


def caught(parts: Parts = SOUND, use: Use | None = None) -> str:
    """The law that the first failing run breaks."""
    for verdict in failing(parts, use):
        return verdict.broken
    raise AssertionError(f"not caught within {MOST_SEEDS} seeds")


class ComparesNothing(TrueStore):
    """The last writer wins."""

    def _commit(self, change: Change) -> CommitResult:
        version = self.data.sessions[change.after.id]["version"]
        before = replace(change.before, version=version) if change.before else None
        return super()._commit(Change(before, replace(change.after, version=version), change.commit_id))


class ComparesAndChecksNothing(ComparesNothing):
    """The unique keys of events do not help out, either."""

    def _check_keys(self, change: Change) -> None: ...


class HoldsNoPayment(TrueStore):
    def _taken(self, change: Change) -> frozenset[str]:
        return frozenset()


class LeasesForEver(TrueStore):
    async def claim_due(self, now: int, owner: str, limit: int, lease_seconds: float) -> list[Session]:
        return await super().claim_due(now, owner, limit, 1e9)


class WritesOrdersLater(TrueStore):
    """Orders are not in the commit that says PAID."""

    def _write(self, change: Change) -> None:
        before = self.data.orders.copy()
        orders, self.data.orders = self.data.orders, {}
        try:
            super()._write(change)
        finally:
            self.data.orders = orders
        assert before == orders


class TakesUnknownForWon(FaultyStore):
    async def commit(self, before: Session, after: Session) -> CommitResult:
        try:
            return await self._call("commit", lambda: self._store.commit(before, after))
        except CommitUnknown:
            return Committed.WON


class PromisesTooSoon(Payments):
    """SUCCESS, whatever became of the hint."""

    async def callback(self, session_id: str, payment_id: str) -> str:
        try:
            return await super().callback(session_id, payment_id)
        except StoreUnavailable:
            return "waiting"


class CancelsHereOnly(Payments):
    """QPay is not told, and the payer can still pay."""

    async def _cancelled_at_qpay(self, session: Session) -> frozenset[int]:
        return frozenset(attempt.number for attempt in session.attempts)


class MarksBeforeSending(Deliverer):
    """The outbox says delivered, and then the shop is told."""

    async def _deliver(self, numbered: NumberedEvent) -> Delivered | None:
        await self._desk.store.events_done(self._owner, [numbered.event.id])
        return await super()._deliver(numbered)


class ForgetsBeforeReplaying(Replayer):
    """The file goes first."""

    async def _replay(self, one: Spooled) -> bool:
        await self._spool.done(one.name)
        return await super()._replay(one)


class LosesOrder(TrueStore):
    """A session's later events do not wait for its earlier ones."""

    async def claim_events(self, owner: str, limit: int, lease_seconds: float) -> list[NumberedEvent]:
        clock = self._clock()
        rows = map(self.data.events.__getitem__, self.data.waiting)
        ready = [row for row in rows if row["state"] == EventState.NUMBERED and row["lease_until"] <= clock]
        return [numbered(leased(row, owner, clock, lease_seconds)) for row in ready[:limit]]


@pytest.mark.parametrize(
    ("parts", "law", "use"),
    [
        (Parts(store=ComparesNothing), "law 6", None),
        (Parts(store=ComparesAndChecksNothing), "", None),
        (Parts(store=HoldsNoPayment), "law 1: a provider payment counts once", None),
        (Parts(store=LeasesForEver), "law 2: it never comes to rest", None),
        (Parts(store=WritesOrdersLater), "law 6", None),
        (Parts(way_to_store=TakesUnknownForWon), "", None),
        (Parts(payments=PromisesTooSoon), "law 5: SUCCESS is a promise", None),
        (Parts(payments=CancelsHereOnly), "law 7: a cancelled session's invoices", None),
        (Parts(deliverer=MarksBeforeSending), "an event is ticked off when the shop has it", Use.WEBHOOK),
        (Parts(store=LosesOrder), "a session's events are first heard in order", Use.WEBHOOK),
        (Parts(replayer=ForgetsBeforeReplaying), "law 5: what the spool forgets is in the database", Use.SPOOL),
    ],
    ids=lambda value: (
        "-".join(part.__name__ for part in vars(value).values() if part not in vars(SOUND).values())
        if isinstance(value, Parts)
        else ""
    ),
)
def test_a_broken_part_is_caught(parts: Parts, law: str, use: Use | None) -> None:
    broken = caught(parts, use)
    assert broken.startswith(law), broken


def goes_back(session: Session, evidence: Evidence, now: int, *_: object) -> Session:
    """An empty answer takes back what was seen."""
    if evidence.complete and session.payments and not any(a.payments for a in evidence.answers):
        return replace(session, payments=()).with_news("check.answered", now, complete=True)
    return rules.after_answer(session, evidence, now)


def silence_is_no(before: Session, reason: Any, answer: Any, taken: Any, rules: Any) -> Session:
    """Whoever says nothing is taken to say: not paid."""
    evidence = replace(answer.evidence, complete=True)
    asked_ids = frozenset(str(attempt.id) for attempt in before.asked_about)
    return _decided(before, reason, replace(answer, evidence=evidence, asked_ids=asked_ids), taken, rules)


def looks_once(session: Session, payment_id: str, now: int) -> Session:
    """A hint is kept, and nobody will look after it."""
    after = _hinted(session, payment_id, now)
    return replace(after, looks=session.looks)


def hints_again(session: Session, payment_id: str, now: int) -> Session:
    """A callback that comes again, as from the spool, is kept as another one."""
    if not payment_id or steps.knows(session, payment_id):
        return _hinted(session, payment_id, now)
    after = _hinted(replace(session, hints=()), payment_id, now)
    return replace(after, hints=(*session.hints, *after.hints))


async def asks_until_answered(desk: Desk, session: Session, payment_id: str, note: str, by: str) -> Session:
    """A refund whose answer was lost is asked for again."""
    try:
        return await _given_back(desk, session, payment_id, note, by)
    except ProviderUnavailable:
        return await _given_back(desk, session, payment_id, note, by)


def nobody_waits(*_: object) -> None:
    """Whoever wants to pay money back may do so, whoever else is at it."""


async def careless_window(provider: Provider, read: Listing, start: int, end: int) -> bool:
    """What was read is taken for all there is."""
    await _window(provider, read, start, end)
    read.trouble = ""
    return True


def forgets_payments(session: Session, now: int) -> Session:
    """Blanking takes the payments, too, and with them what makes them unique."""
    after = _blanked(session, now)
    return after if after is session else replace(after, payments=())


def accepts_again(session: Session, *, by: str, note: str, now: int) -> Session:
    """A second decision makes the orders a second time."""
    if session.status is not Status.PAID:
        return _accepted(session, by=by, note=note, now=now)
    again = tuple(replace(order, id=f"{order.id}-again") for order in session.orders)
    told = session.with_news("session.reviewed", now, decision="accept", by=by, note=note, shortfall="0")
    return replace(told, orders=again)


_decided = use_case._decided
_hinted = steps.hinted
_given_back = refunding._given_back
_window = listing._window
_blanked = retention.blanked
_accepted = reviewing.accepted


@pytest.mark.parametrize(
    ("place", "name", "defect", "law", "use"),
    [
        (use_case, "after_answer", goes_back, "", None),
        (use_case, "_decided", silence_is_no, "law 7", None),
        (steps, "hinted", looks_once, "law 2: a hint is looked after", None),
        (steps, "may_ask", lambda *_args, **_kwargs: True, "law 12", None),
        (steps, "hinted", hints_again, "", Use.SPOOL),
        (
            refunding,
            "_given_back",
            asks_until_answered,
            "law 5: a refund is committed first, and QPay is asked once",
            Use.REFUNDS,
        ),
        (refund_rules, "_refuse_while_young", nobody_waits, "law 9: no more goes back than came", Use.REFUNDS),
        (listing, "_window", careless_window, "law 9: a sweep that says it saw all has missed money", Use.SWEEPS),
        (memory, "blanked", forgets_payments, "law 1: blanking touches no money", Use.CLEANING),
        (reviewing, "accepted", accepts_again, "law 1: orders never change", Use.REVIEWS),
        (belonging, "is_theirs", lambda _session: False, "law 1: one order set, whichever", Use.OLD_SHOP),
    ],
    ids=[
        "an empty answer takes money back",
        "silence means unpaid",
        "no look planned",
        "asked at any time",
        "a replayed callback is another one",
        "a refund is sent again after silence",
        "two people pay the same money back",
        "an incomplete list is the whole list",
        "blanking forgets the payments",
        "a review accepted twice",
        "a sweep orders what the old shop is ordering",
    ],
)
def test_a_broken_rule_is_caught(
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    name: str,
    defect: Callable[..., object],
    law: str,
    use: Use | None,
) -> None:
    monkeypatch.setattr(place, name, defect)
    broken = caught(use=use)
    assert broken.startswith(law), broken


def test_failing_runs_are_made_shorter_and_still_break_the_same_law() -> None:
    """Leaving a fault out moves the random stream, so one run may come out no shorter; of five, a third must go."""
    parts = Parts(payments=PromisesTooSoon)
    crowded = (verdict for verdict in failing(parts) if len(verdict.counts) > 5)
    before = after = 0
    for whole in itertools.islice(crowded, 5):
        short = shrunk(whole.recipe, parts)
        assert whole.broken.partition(":")[0] == short.broken.partition(":")[0]
        assert short.trace
        assert short.recipe.without > whole.recipe.without
        before, after = before + len(whole.counts), after + len(short.counts)
    assert after < before * 2 / 3
