"""The memory store's outbox: numbers, leases, deliveries, and their history."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import dropwhile

from tulbur.core.session import Event, Micros
from tulbur.ports import EventDelivery, NumberedEvent, Replayed
from tulbur.stores import rows
from tulbur.stores.memory_data import MemoryPart, Row, leased
from tulbur.stores.rows import EventState, page


class MemoryOutbox(MemoryPart):
    """The outbox's part of `ports.Store`."""

    async def publish(self, limit: int, *, deliver: bool = True) -> int:
        await asyncio.sleep(0)
        waiting = [self.data.events[id_] for id_ in self.data.waiting]
        unnumbered = [row for row in waiting if row["state"] == EventState.UNNUMBERED]
        ids = rows.in_order(unnumbered, limit)
        for id_ in ids:
            self.data.numbers.append(id_)
            state = EventState.NUMBERED if deliver else EventState.DELIVERED
            self.data.events[id_].update(no=len(self.data.numbers), state=state)
            if not deliver:
                del self.data.waiting[id_]
        return len(ids)

    async def claim_events(self, owner: str, limit: int, lease_seconds: float) -> list[NumberedEvent]:
        await asyncio.sleep(0)
        clock = self._clock()
        first: dict[str, Row] = {}
        for row in map(self.data.events.__getitem__, self.data.waiting):
            earlier = first.get(row["session_id"])
            if earlier is None or row["seq"] < earlier["seq"]:
                first[row["session_id"]] = row
        ready = [r for r in first.values() if r["state"] == EventState.NUMBERED and r["lease_until"] <= clock]
        ready.sort(key=lambda row: int(row["no"]))
        return [rows.numbered(leased(row, owner, clock, lease_seconds)) for row in ready[: page(limit)]]

    async def events_done(self, owner: str, event_ids: Sequence[str]) -> None:
        await asyncio.sleep(0)
        for id_ in event_ids:
            row = self.data.events.get(id_)
            if row and row["state"] == EventState.NUMBERED and row["lease_owner"] == owner:
                row.update(rows.delivered(self._clock()))
                del self.data.waiting[id_]

    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: Micros | None) -> None:
        await asyncio.sleep(0)
        for id_ in event_ids:
            row = self.data.events.get(id_)
            if row and row["state"] == EventState.NUMBERED and row["lease_owner"] == owner:
                row.update(rows.failed(retry_at), attempts=row["attempts"] + 1)
                if retry_at is None:
                    del self.data.waiting[id_]

    async def parked(self, after_no: int, limit: int) -> list[NumberedEvent]:
        await asyncio.sleep(0)
        mine = [row for row in self._numbered_after(after_no) if row["state"] == EventState.PARKED]
        return [rows.numbered(row) for row in mine[: page(limit)]]

    async def replay_events(
        self, after_no: int, *, since: Micros, before: Micros, limit: int, parked_only: bool = False
    ) -> Replayed:
        await asyncio.sleep(0)
        numbered = self._numbered_after(after_no)
        recent = dropwhile(lambda row: row["at"] < since - rows.DISORDER, numbered)
        examined = [row for row in recent if not parked_only or row["state"] == EventState.PARKED]
        examined = examined[: page(limit)]
        ids = rows.replayable(examined, since=since, before=before, parked_only=parked_only)
        for id_ in ids:
            self.data.events[id_].update(rows.AGAIN)
            self.data.waiting[id_] = None
        return Replayed(len(ids), examined[-1]["no"] if examined else after_no)

    def _numbered_after(self, after: int) -> list[Row]:
        return [self.data.events[id_] for id_ in self.data.numbers[max(after, 0) :]]

    async def events(self, after: int, limit: int) -> list[NumberedEvent]:
        await asyncio.sleep(0)
        first = max(after, 0)
        ids = self.data.numbers[first : first + page(limit)]
        return [rows.numbered(self.data.events[id_]) for id_ in ids]

    async def history(self, session_id: str, limit: int) -> list[Event]:
        await asyncio.sleep(0)
        ids = self.data.histories.get(session_id, [])[: page(limit)]
        return [rows.read_event(self.data.events[id_]) for id_ in ids]

    async def deliveries(self, session_id: str, limit: int) -> list[EventDelivery]:
        await asyncio.sleep(0)
        mine = [self.data.events[id_] for id_ in self.data.histories.get(session_id, [])]
        public = [row for row in mine if row["state"] != EventState.PRIVATE]
        return [rows.delivery(row) for row in public[: page(limit)]]
