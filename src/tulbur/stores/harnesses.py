"""How the contract gets at the stores that are shipped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tulbur.errors import CommitUnknown
from tulbur.ports import Clock, Store
from tulbur.stores.contracts.samples import NOW
from tulbur.stores.memory import MemoryStore
from tulbur.stores.sqlite import SqliteStore

T = TypeVar("T")


class LossyMemoryStore(MemoryStore):
    """A memory store whose next answer to a commit can be lost."""

    lose: bool | None = None

    def _send_commit(self, write: Callable[[], T]) -> T:
        executed, self.lose = self.lose, None
        if executed is None:
            return super()._send_commit(write)
        if executed:
            super()._send_commit(write)
        raise CommitUnknown


class LossySqliteStore(SqliteStore):
    """A SQLite store whose next answer to COMMIT can be lost."""

    lose: bool | None = None

    def _send_commit(self, connection: Connection) -> None:
        executed, self.lose = self.lose, None
        if executed is None:
            super()._send_commit(connection)
            return
        if executed:
            super()._send_commit(connection)
        raise OperationalError("COMMIT", None, ConnectionError("the answer was lost"))


class MemoryHarness:
    """Memory stores of one class, each on data of its own."""

    def __init__(self, store: type[LossyMemoryStore] = LossyMemoryStore, clock: Clock = lambda: NOW) -> None:
        self._store = store
        self._clock = clock

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        store = self._store(self._clock)
        await store.start()
        yield store
        await store.stop()

    @asynccontextmanager
    async def reopen(self, store: Store) -> AsyncIterator[Store]:
        assert isinstance(store, MemoryStore)  # noqa: S101 - a test's own mistake
        yield self._store(self._clock, data=store.data)

    def lose_next_commit_answer(self, store: Store, *, executed: bool) -> None:
        assert isinstance(store, LossyMemoryStore)  # noqa: S101 - a test's own mistake
        store.lose = executed


class SqliteHarness:
    """SQLite stores, each on a new file in one folder; leases end by SQLite's own clock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        async with self._started(self._folder / f"{next(self._numbers)}.db") as store:
            yield store

    @asynccontextmanager
    async def reopen(self, store: Store) -> AsyncIterator[Store]:
        assert isinstance(store, SqliteStore)  # noqa: S101 - a test's own mistake
        async with self._started(store.path) as other:
            yield other

    def lose_next_commit_answer(self, store: Store, *, executed: bool) -> None:
        assert isinstance(store, LossySqliteStore)  # noqa: S101 - a test's own mistake
        store.lose = executed

    @asynccontextmanager
    async def _started(self, path: Path) -> AsyncIterator[Store]:
        store = LossySqliteStore(path)
        await store.start()
        try:
            yield store
        finally:
            await store.stop()
