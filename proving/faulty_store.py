"""The database, whose every write is judged, and one process's way to it, which fails as the run's faults say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context
from functools import partial
from typing import Any, Final

from proving.faults import Fault, Faults
from proving.host import Host
from proving.oracle import Oracle
from tulbur.core.session import SECOND, Micros, Session
from tulbur.errors import (
    CommitUnknown,
    Conflict,
    StoreUnavailable,
    TulburError,
)
from tulbur.ports import Clock, Committed, Replayed, SweepRun, Unmatched
from tulbur.stores.memory import MemoryData, MemoryStore
from tulbur.stores.rows import ORDERED_ALREADY, TOLD_ALREADY, Change, EventState

UNKNOWN: Final = ("add", "commit")
"""Calls that may leave a caller not knowing whether they happened."""

SLOW_SECONDS: Final = 20.0
"""How long a slow database takes at most, on the way there and back."""


class TrueStore(MemoryStore):
    """The database itself, shared by all processes; every write is judged. `written` hears of each."""

    def __init__(
        self,
        clock: Clock,
        data: MemoryData,
        oracle: Oracle,
        faults: Faults,
        commit_ids: Callable[[], str],
        written: Callable[[], None],
    ) -> None:
        super().__init__(clock, data=data, commit_ids=commit_ids)
        self._oracle = oracle
        self._faults = faults
        self._written = written
        self._read_already: dict[str, tuple[bytes, Session]] = {}
        self.away_until: Micros = 0

    def _send_commit(self, write: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever was written answers
        done = write()
        if self._faults.fires(Fault.STORE_RESENT):
            raise CommitUnknown
        return done

    def _write(self, change: Change) -> None:
        before = self._session(change.after.id)
        super()._write(change)
        stored = self._session(change.after.id)
        if stored is not None:
            self._oracle.committed(before, change.after, stored)
        self._written()

    async def events_done(self, owner: str, event_ids: Sequence[str]) -> None:
        rows = [self.data.events[id_] for id_ in event_ids]
        mine = [r["id"] for r in rows if r["state"] == EventState.NUMBERED and r["lease_owner"] == owner]
        self._oracle.ticked_off(mine)
        await super().events_done(owner, event_ids)

    async def events_failed(self, owner: str, event_ids: Sequence[str], *, retry_at: Micros | None) -> None:
        await super().events_failed(owner, event_ids, retry_at=retry_at)
        self._oracle.gave_up(event_ids)

    async def replay_events(
        self, after_no: int, *, since: Micros, before: Micros, limit: int, parked_only: bool = False
    ) -> Replayed:
        done = await super().replay_events(after_no, since=since, before=before, limit=limit, parked_only=parked_only)
        self._written()
        return done

    async def record_unmatched(self, unmatched: Unmatched) -> bool:
        done = await super().record_unmatched(unmatched)
        self._written()
        return done

    async def sweep_put(self, run: SweepRun) -> None:
        await super().sweep_put(run)
        self._oracle.swept(run)

    def _check_keys(self, change: Change) -> None:
        try:
            super()._check_keys(change)
        except Conflict as refused:
            with self._oracle.judging(change.after.id):
                twice = refused.message in (TOLD_ALREADY, ORDERED_ALREADY)
                assert not twice, "law 6: a commit that compares and sets is not left to the unique keys"
            raise

    def _read(self, row: Mapping[str, Any]) -> Session:
        # A session is a value, so reading the same bytes once is enough.
        known = self._read_already.get(row["id"])
        if known is None or known[0] is not row["document"] or known[1].version != row["version"]:
            known = self._read_already[row["id"]] = (row["document"], super()._read(row))
        return known[1]

    def judged(self, session_id: str) -> Session:
        """The session as it is stored, for the oracle."""
        return self._read(self.data.sessions[session_id])


class FaultyStore:
    """One process's way to the database; every method of `ports.Store` passes through `_call`."""

    def __init__(self, store: TrueStore, host: Host, faults: Faults, clock: Clock) -> None:
        self._store, self._host, self._faults, self._clock = store, host, faults, clock
        self._kinds = faults.among(Fault.STORE_FAILED, Fault.STORE_LOST, Fault.STORE_LATE, Fault.STORE_SLOW)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any method of the store
        self.__dict__[name] = called = partial(self._call, name, getattr(self._store, name))
        return called

    async def _call(self, name: str, method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            if self._host.in_danger:
                await self._host.may_go_on()
            fault = self._fault()
            if fault is not None:
                await self._before(fault, name, partial(method, *args, **kwargs))
            done = await method(*args, **kwargs)
            if fault is Fault.STORE_SLOW:
                await asyncio.sleep(self._faults.rng.uniform(0, SLOW_SECONDS / 2))
        except asyncio.CancelledError:
            if self._host.dead and name in UNKNOWN and self._faults.fires(Fault.KILLED_IN_FLIGHT):
                self._lands_later(partial(method, *args, **kwargs))
            raise
        await asyncio.sleep(0)
        if self._host.in_danger:
            await self._host.may_go_on()
        if fault is Fault.STORE_LOST:
            self._faults.count(fault)
            raise CommitUnknown if name in UNKNOWN else StoreUnavailable
        if done is Committed.LOST:
            self._faults.count(Fault.STORE_RACE)
        return done

    def _fault(self) -> Fault | None:
        self._here()
        return self._faults.one_of(self._kinds)

    async def _before(self, fault: Fault, name: str, work: Callable[[], Awaitable[Any]]) -> None:
        """What goes wrong on the way there; what goes wrong on the way back comes after it."""
        if fault is Fault.STORE_FAILED:
            self._faults.count(fault)
            raise StoreUnavailable
        if fault is Fault.STORE_SLOW:
            self._faults.count(fault)
            await asyncio.sleep(self._faults.rng.uniform(0, SLOW_SECONDS / 2))
        if fault is Fault.STORE_LATE and name in UNKNOWN:
            self._faults.count(fault)
            self._lands_later(work)
            raise CommitUnknown

    def _here(self) -> None:
        """Raise StoreUnavailable while the database is away for everybody."""
        if self._faults.calm or not self._faults.odds.get(Fault.STORE_AWAY):
            return
        now = self._clock()
        if self._store.away_until <= now:
            if not self._faults.fires(Fault.STORE_AWAY):
                return
            self._store.away_until = now + int(self._faults.rng.uniform(1, 120) * SECOND)
        if self._store.away_until > now:
            raise StoreUnavailable

    def _lands_later(self, work: Callable[[], Awaitable[Any]]) -> None:
        seconds = self._faults.rng.uniform(0, 30) if self._faults.rng.random() < 0.5 else 0

        async def land() -> None:
            await asyncio.sleep(seconds)
            with contextlib.suppress(TulburError):
                await work()

        # No process has it any more: it is under way in the network.
        asyncio.get_running_loop().create_task(land(), context=Context())
