"""The laws of what the shop hears, kept by its receiver: every event, the same each time, in order within a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tulbur.core.session import PUBLIC_EVENTS
from tulbur.ports import NumberedEvent
from tulbur.stores.memory import MemoryData
from tulbur.stores.rows import EventState


@dataclass
class Outbox:
    """`heard` is each event as it came first; `parked` those that nobody tried any more, at some time."""

    data: MemoryData
    heard: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)

    def received(self, numbered: NumberedEvent) -> None:
        """An event reached the shop, for the first time or again."""
        event = numbered.event
        message = (numbered.no, numbered.session_id, f"{event.type} {event.at} {sorted(event.data.items())}")
        known = self.heard.setdefault(event.id, message)
        assert known == message, "the same event is the same message"
        history = self.data.histories[numbered.session_id]
        for id_ in history[: history.index(event.id)]:
            if self.data.events[id_]["type"] in PUBLIC_EVENTS and id_ not in self.parked:
                assert id_ in self.heard, "a session's events are first heard in order, without a gap"

    def gave_up(self, event_ids: Sequence[str]) -> list[str]:
        """Those of some failed ones that are parked now."""
        parked = [id_ for id_ in event_ids if self.data.events[id_]["state"] == EventState.PARKED]
        self.parked.update(parked)
        return parked

    def ticked_off(self, event_ids: Sequence[str]) -> None:
        assert all(id_ in self.heard for id_ in event_ids), "an event is ticked off when the shop has it"

    def at_rest(self) -> None:
        """Each public event was heard or is parked, where somebody sees it."""
        for row in self.data.events.values():
            if row["type"] in PUBLIC_EVENTS:
                known = row["id"] in self.heard or row["state"] == EventState.PARKED
                assert known, "every event is delivered at least once, or parked"
