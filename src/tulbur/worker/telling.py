"""Events on their way to the shop."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tulbur.errors import TulburError
from tulbur.payments import Payments
from tulbur.payments.delivering import Chance, Delivered, deliver
from tulbur.ports import ANSWERED, NumberedEvent, Shop
from tulbur.worker.pace import EVENTS, LEASE_SECONDS, keep_on, log

DELIVERED_AT_ONCE: Final = 16
"""Events leased and sent at once, of as many sessions; the shop's time limit ends well within their lease."""


class Deliverer:
    """Sends events to the shop until it is told to stop. Any number of them share one database.

    The store leases a session's events one after the other, so each session is told in order, however many are told
    at once.
    """

    def __init__(self, payments: Payments, shop: Shop, *, owner: str, chance: Chance) -> None:
        self._desk = payments.desk
        self._shop = shop
        self._owner = owner
        self._chance = chance
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        await keep_on(self.once, self._stopping, "delivering")

    def stop(self) -> None:
        self._stopping.set()

    async def once(self) -> bool | None:
        """One round; True when more may be waiting, None when the shop answered none of what was sent."""
        numbered = await self._desk.store.publish(EVENTS)
        leased = await self._desk.store.claim_events(self._owner, DELIVERED_AT_ONCE, LEASE_SECONDS)
        done = [one for one in await asyncio.gather(*map(self._deliver, leased)) if one is not None]
        if done and not any(one.delivery.outcome in ANSWERED for one in done):
            return None
        return numbered == EVENTS or len(leased) == DELIVERED_AT_ONCE or any(one.ok for one in done)

    async def _deliver(self, numbered: NumberedEvent) -> Delivered | None:
        told = {"event_id": numbered.event.id, "session_id": numbered.session_id, "type": numbered.event.type}
        try:
            done = await deliver(
                self._desk.store,
                self._shop,
                numbered,
                owner=self._owner,
                clock=self._desk.clock,
                chance=self._chance,
            )
        except TulburError as error:
            # The lease ends by itself, and the event is sent again.
            log.warning("a delivery was not written down", extra={**told, "error": error.message})
            return None
        except Exception:  # noqa: BLE001 - a defect in one event must not stop the others
            log.exception("a delivery failed", extra=told)
            return None
        if not done.ok:
            why = {"outcome": done.delivery.outcome.value, "status": done.delivery.status}
            level, text = (logging.ERROR, "an event is parked") if done.parked else (logging.WARNING, "not delivered")
            log.log(level, text, extra={**told, **why, "attempts": numbered.attempts + 1})
        return done
