"""How the contract gets at MongoDB: databases that are used again, emptied, because making one takes a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from tulbur.ports import Clock, Store
from tulbur.stores import mongo_migrate
from tulbur.stores.mongo import MongoStore
from tulbur.stores.mongo_documents import Document
from tulbur.stores.mongo_link import database_name
from tulbur.stores.mongo_schema import INDEXES


class LossyMongoStore(MongoStore):
    """A MongoDB store whose next answer to a commit can be lost."""

    lose: bool | None = None

    async def _send_commit(self, session: AsyncClientSession) -> None:
        executed, self.lose = self.lose, None
        if executed is None:
            await super()._send_commit(session)
            return
        await (super()._send_commit(session) if executed else session.abort_transaction())
        raise PyMongoError("the answer was lost")


class MongoHarness:
    """MongoDB stores; `new` gives the URL of a database that nobody uses."""

    def __init__(
        self, new: Callable[[], str], clock: Clock | None = None, store: type[LossyMongoStore] = LossyMongoStore
    ) -> None:
        self._new = new
        self._clock = clock
        self._store = store
        self._free: list[str] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        url = self._free.pop() if self._free else self._made()
        async with self._started(url) as store:
            yield store
        await emptied(url)
        self._free.append(url)

    @asynccontextmanager
    async def reopen(self, store: Store) -> AsyncIterator[Store]:
        assert isinstance(store, MongoStore)  # noqa: S101 - a test's own mistake
        async with self._started(store.url) as other:
            yield other

    def lose_next_commit_answer(self, store: Store, *, executed: bool) -> None:
        assert isinstance(store, LossyMongoStore)  # noqa: S101 - a test's own mistake
        store.lose = executed

    def _made(self) -> str:
        url = self._new()
        mongo_migrate.up(url)
        return url

    @asynccontextmanager
    async def _started(self, url: str) -> AsyncIterator[Store]:
        store = self._store(url, self._clock)
        await store.start()
        try:
            yield store
        finally:
            await store.stop()


async def emptied(url: str) -> None:
    """Delete every document of ours but the schema's revision."""
    client: AsyncMongoClient[Document]
    async with AsyncMongoClient(url) as client:
        database: AsyncDatabase[Document] = client.get_database(database_name(url))
        for name in INDEXES:
            await database[name].delete_many({})
