"""The oracle can fail: each of these defects, planted into the parts on trial, is caught within 2,000 seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from proving.faulty_store import FaultyStore, TrueStore
from proving.schedules import Recipe, Verdict, listening, run
from proving.shrinking import shrunk
from proving.world import SOUND, Parts
from tulbur.core import settling as rules
from tulbur.core import steps
from tulbur.core.session import Session
from tulbur.core.settling import Evidence
from tulbur.errors import CommitUnknown, StoreUnavailable
from tulbur.payments import Payments
from tulbur.payments import settling as use_case
from tulbur.ports import CommitResult, Committed
from tulbur.stores.rows import Change

MOST_SEEDS = 2000


def failing(parts: Parts = SOUND) -> Iterator[Verdict]:
    """The runs that break a law, by seed."""
    for seed in range(MOST_SEEDS):
        with listening():
            verdict = run(Recipe(seed), parts=parts)
        if verdict.broken:
            yield verdict


def caught(parts: Parts = SOUND) -> str:
    """The law that the first failing run breaks."""
    for verdict in failing(parts):
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


@pytest.mark.parametrize(
    ("parts", "law"),
    [
        (Parts(store=ComparesNothing), "law 6"),
        (Parts(store=ComparesAndChecksNothing), ""),
        (Parts(store=HoldsNoPayment), "law 1: a provider payment counts once"),
        (Parts(store=LeasesForEver), "law 2: it never comes to rest"),
        (Parts(store=WritesOrdersLater), "law 6"),
        (Parts(way_to_store=TakesUnknownForWon), ""),
        (Parts(payments=PromisesTooSoon), "law 5: SUCCESS is a promise"),
        (Parts(payments=CancelsHereOnly), "law 7: a cancelled session's invoices"),
    ],
    ids=lambda value: (
        "-".join(part.__name__ for part in vars(value).values() if part not in vars(SOUND).values())
        if isinstance(value, Parts)
        else ""
    ),
)
def test_a_broken_part_is_caught(parts: Parts, law: str) -> None:
    broken = caught(parts)
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


_decided = use_case._decided
_hinted = steps.hinted


@pytest.mark.parametrize(
    ("place", "name", "defect", "law"),
    [
        (use_case, "after_answer", goes_back, ""),
        (use_case, "_decided", silence_is_no, "law 7"),
        (steps, "hinted", looks_once, "law 2: a hint is looked after"),
        (steps, "may_ask", lambda *_args, **_kwargs: True, "law 12"),
    ],
    ids=["an empty answer takes money back", "silence means unpaid", "no look planned", "asked at any time"],
)
def test_a_broken_rule_is_caught(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str, defect: Callable[..., object], law: str
) -> None:
    monkeypatch.setattr(place, name, defect)
    broken = caught()
    assert broken.startswith(law), broken


def test_failing_runs_are_made_shorter_and_still_break_the_same_law() -> None:
    """Leaving a fault out moves the random stream, so one run may come out no shorter; of three, most faults go."""
    parts = Parts(payments=PromisesTooSoon)
    crowded = (verdict for verdict in failing(parts) if len(verdict.counts) > 5)
    before = after = 0
    for whole in itertools.islice(crowded, 3):
        short = shrunk(whole.recipe, parts)
        assert whole.broken.partition(":")[0] == short.broken.partition(":")[0]
        assert short.trace
        assert short.recipe.without > whole.recipe.without
        before, after = before + len(whole.counts), after + len(short.counts)
    assert after < before / 2
