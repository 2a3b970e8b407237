"""Committed events reach the shop: numbered, leased, sent, and marked; what fails is tried again, at last parked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from tulbur.core.delivering import retry_at
from tulbur.core.session import Micros
from tulbur.ports import MOST_ROWS, Clock, Delivery, NumberedEvent, Outcome, Replayed, Shop, Store

Chance: TypeAlias = Callable[[], float]
"""A number from 0 to 1."""

MOST_PAGES: Final = 1_000_000
"""Where a replay ends for certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """One attempt and what follows from it: `retry_at` of a failure, None when it is delivered or parked."""

    numbered: NumberedEvent
    delivery: Delivery
    retry_at: Micros | None = None

    @property
    def ok(self) -> bool:
        return self.delivery.outcome is Outcome.DELIVERED

    @property
    def parked(self) -> bool:
        return not self.ok and self.retry_at is None


async def deliver(
    store: Store, shop: Shop, numbered: NumberedEvent, *, owner: str, clock: Clock, chance: Chance
) -> Delivered:
    """Send one leased event and write down what became of it.

    A process that dies in between has written nothing: the lease ends, and the event is sent again under the same id.
    """
    delivery = await shop.deliver(numbered)
    if delivery.outcome is Outcome.DELIVERED:
        await store.events_done(owner, [numbered.event.id])
        return Delivered(numbered=numbered, delivery=delivery)
    again = retry_at(numbered.attempts, clock(), chance(), delivery.asked_seconds)
    await store.events_failed(owner, [numbered.event.id], retry_at=again)
    return Delivered(numbered=numbered, delivery=delivery, retry_at=again)


async def replay_events(store: Store, *, since: Micros, before: Micros, parked_only: bool = False) -> int:
    """Make what was delivered or parked in that time deliverable again; how many there were."""
    at = Replayed(0, 0)
    count = 0
    for _ in range(MOST_PAGES):
        page = await store.replay_events(
            at.last_no, since=since, before=before, limit=MOST_ROWS, parked_only=parked_only
        )
        count += page.count
        if page.last_no <= at.last_no:
            break
        at = page
    return count
