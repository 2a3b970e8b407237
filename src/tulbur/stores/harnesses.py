"""How the contract gets at the stores that are shipped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tulbur.errors import CommitUnknown
from tulbur.ports import Clock, Store
from tulbur.stores.contracts.samples import NOW
from tulbur.stores.memory import MemoryStore
from tulbur.stores.network import NetworkStore
from tulbur.stores.schema import metadata
from tulbur.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

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


class LossyNetworkStore(NetworkStore):
    """A store on a server whose next answer to COMMIT can be lost."""

    lose: bool | None = None

    async def _send_commit(self, connection: AsyncConnection) -> None:
        executed, self.lose = self.lose, None
        if executed is None:
            await super()._send_commit(connection)
            return
        if executed:
            await super()._send_commit(connection)
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


class NetworkHarness:
    """Stores on one database of a server, which was migrated and is emptied for each; leases end by its own clock."""

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        async with self._started() as store:
            await store._write(empty)  # noqa: SLF001 - no store can do this, and should not
            yield store

    @asynccontextmanager
    async def reopen(self, store: Store) -> AsyncIterator[Store]:
        del store
        async with self._started() as other:
            yield other

    def lose_next_commit_answer(self, store: Store, *, executed: bool) -> None:
        assert isinstance(store, LossyNetworkStore)  # noqa: S101 - a test's own mistake
        store.lose = executed

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[LossyNetworkStore]:
        store = LossyNetworkStore(self._url)
        await store.start()
        try:
            yield store
        finally:
            await store.stop()


def empty(connection: Connection) -> None:
    """Delete every row of ours, for a test only."""
    for table in metadata.sorted_tables:
        connection.execute(table.delete())


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
