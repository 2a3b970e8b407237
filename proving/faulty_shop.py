"""The shop's receiver as one process of tulbur sees it: away, silent, slow, and refusing for no reason."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from proving.faults import Fault, Faults
from proving.host import Host
from proving.oracle import Oracle
from tulbur.core.session import SECOND, Micros
from tulbur.ports import Clock, Delivery, NumberedEvent, Outcome

ANSWER_SECONDS: Final = 15.0
"""The sender's own time limit, well within the lease of an event."""

LONGEST_AWAY_SECONDS: Final = 2 * 86_400


@dataclass
class Door:
    """The shop's door, which is the same for every process."""

    closed_until: Micros = 0


class FaultyShop:
    """One process's way to the shop; what arrives there the oracle hears."""

    def __init__(self, door: Door, host: Host, faults: Faults, oracle: Oracle, clock: Clock) -> None:
        self._door, self._host, self._faults, self._oracle, self._clock = door, host, faults, oracle, clock
        self._kinds = faults.among(Fault.SHOP_REFUSED, Fault.SHOP_SILENT, Fault.SHOP_LOST, Fault.SHOP_SLOW)

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def deliver(self, numbered: NumberedEvent) -> Delivery:
        await self._host.may_go_on()
        if self._is_closed():
            return Delivery(Outcome.UNREACHABLE)
        fault = self._faults.one_of(self._kinds)
        if fault is not None:
            self._faults.count(fault)
        rng = self._faults.rng
        if fault is Fault.SHOP_SILENT:
            await asyncio.sleep(ANSWER_SECONDS)
            return Delivery(Outcome.TIMEOUT)
        if fault is Fault.SHOP_REFUSED:
            return Delivery(Outcome.REFUSED, rng.choice((400, 404, 429, 500, 503)), rng.choice((0, 0, 60, 7200)))
        seconds = rng.uniform(0, ANSWER_SECONDS) if fault is Fault.SHOP_SLOW else 0
        there = seconds * rng.random()
        await asyncio.sleep(there)
        self._oracle.received(numbered)
        await asyncio.sleep(ANSWER_SECONDS if fault is Fault.SHOP_LOST else seconds - there)
        await self._host.may_go_on()
        return Delivery(Outcome.TIMEOUT) if fault is Fault.SHOP_LOST else Delivery(Outcome.DELIVERED, 200)

    def _is_closed(self) -> bool:
        """Closed once, it stays so for its time, though nothing else fails any more."""
        now = self._clock()
        if self._door.closed_until <= now and self._faults.fires(Fault.SHOP_AWAY):
            self._door.closed_until = now + int(self._faults.rng.uniform(60, LONGEST_AWAY_SECONDS) * SECOND)
        return self._door.closed_until > now
