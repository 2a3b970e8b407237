"""What a memory store keeps, and what its parts share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from tulbur.core.session import Micros
from tulbur.ports import Clock, StoredToken
from tulbur.stores import rows
from tulbur.stores.sending import new_commit_id, sent

T = TypeVar("T")

Row: TypeAlias = dict[str, Any]


@dataclass
class MemoryData:
    """What a memory store keeps; several stores may share it, as processes share a database."""

    sessions: dict[str, Row] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    invoices: dict[str, str] = field(default_factory=dict)
    senders: dict[str, tuple[str, int]] = field(default_factory=dict)
    payments: dict[str, Row] = field(default_factory=dict)
    orders: dict[str, Row] = field(default_factory=dict)
    events: dict[str, Row] = field(default_factory=dict)
    histories: dict[str, list[str]] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    waiting: dict[str, None] = field(default_factory=dict)
    commits: set[tuple[str, str]] = field(default_factory=set)
    tallies: dict[tuple[int, str], int] = field(default_factory=dict)
    leases: dict[str, tuple[str, Micros]] = field(default_factory=dict)
    tokens: dict[str, StoredToken] = field(default_factory=dict)
    sweeps: dict[str, Row] = field(default_factory=dict)


class MemoryPart:
    """What every part of the store has."""

    def __init__(
        self, clock: Clock, *, data: MemoryData | None = None, commit_ids: Callable[[], str] = new_commit_id
    ) -> None:
        self._clock = clock
        self._new_id = commit_ids
        self.data = data if data is not None else MemoryData()

    async def _sent(self, write: Callable[[], T]) -> T:
        async def send() -> T:
            await asyncio.sleep(0)
            return self._send_commit(write)

        return await sent(send)

    def _send_commit(self, write: Callable[[], T]) -> T:
        return write()


def leased(row: Row, owner: str, clock: Micros, seconds: float) -> Row:
    row.update(lease_owner=owner, lease_until=rows.lease_end(clock, seconds))
    return row


def counted(values: Iterable[str]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return list(counts.items())
