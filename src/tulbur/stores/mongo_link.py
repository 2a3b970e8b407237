"""One client of a MongoDB replica set: transactions that are retried as a whole, and what its errors mean.

What is begun is ended: a caller that is cancelled leaves no transaction and no half-open connection behind, since
each call runs in a task of its own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

import pymongo
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from tulbur.core.session import Micros
from tulbur.errors import CommitUnknown, SettingsError, StoreUnavailable
from tulbur.stores.mongo_documents import Document
from tulbur.stores.mongo_errors import refused_start, translated
from tulbur.stores.mongo_schema import SCHEMA
from tulbur.stores.sending import sent

T = TypeVar("T")

DATABASE: Final = "tulbur"
"""The database where the URL names none."""

SECONDS: Final = 10.0
"""Longest time of one call, with everything that is sent again in it."""

PART: Final = 1 / 3
"""Of that time: what hangs is given up after this part, so that it can be sent again over a new connection."""

MOST_COMMITS: Final = 2
"""Times one transaction's commit is asked for when the answer was lost, besides what PyMongo does."""

MOST_READS: Final = 2
"""Times something is read when nobody answers: the first time may have met a connection that is dead."""

MOST_WAITING: Final = 1000
"""Calls that may be under way or wait for a connection."""

MOST_CONNECTIONS: Final = 50
LONGEST_PAUSE_SECONDS: Final = 0.05

MAJORITY: Final = WriteConcern("majority")
WIRE_VERSION: Final = 17
"""Of MongoDB 6.0."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Work:
    """A database, and the transaction under way on it; without one, what is committed is read."""

    database: AsyncDatabase[Document]
    session: AsyncClientSession | None = None

    def __getitem__(self, name: str) -> AsyncCollection[Document]:
        return self.database[name]


Doing: TypeAlias = Callable[[Work], Awaitable[T]]


def database_name(url: str) -> str:
    return unquote(urlsplit(url).path.strip("/")) or DATABASE


def client_options(url: str) -> dict[str, Any]:
    """Our limits, where the URL does not set them."""
    wanted: dict[str, Any] = {
        "appname": "tulbur",
        "connectTimeoutMS": 5000,
        "serverSelectionTimeoutMS": 5000,
        "maxPoolSize": MOST_CONNECTIONS,
    }
    given = urlsplit(url).query.lower()
    return {name: value for name, value in wanted.items() if f"{name.lower()}=" not in given}


class MongoLink:
    """Runs work on one database, in transactions or without."""

    def __init__(
        self,
        url: str,
        *,
        seconds: float = SECONDS,
        most_waiting: int = MOST_WAITING,
        send_commit: Callable[[AsyncClientSession], Awaitable[None]] = AsyncClientSession.commit_transaction,
    ) -> None:
        self.url = url
        self._send_commit = send_commit
        self._seconds = seconds
        self._part = seconds * PART
        self._most_waiting = most_waiting
        self._client: AsyncMongoClient[Document] | None = None
        self._running: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Connect, and refuse a server without transactions.

        Raises:
            SettingsError: the URL, the login or the kind of server is wrong.
            StoreUnavailable: the server does not answer.
        """
        if self._client is not None:
            return
        try:
            self._client = AsyncMongoClient(self.url, **client_options(self.url))
            with pymongo.timeout(self._seconds):
                check_server(await self._client.admin.command("hello"))
        except (PyMongoError, ValueError) as error:
            await self.stop()
            raise refused_start(error) from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Let what is under way come to its end, then close the connections."""
        if self._running:
            await asyncio.wait(self._running)
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def read(self, doing: Doing[T]) -> T:
        """What is committed by a majority, from the primary.

        Raises:
            StoreUnavailable: no answer in time.
        """
        return await self._to_its_end(self._read(doing))

    async def write(self, doing: Doing[T]) -> T:
        """Run `doing` in one transaction, again as a whole while MongoDB asks for that.

        Raises:
            CommitUnknown: whether it was committed was not answered.
            StoreUnavailable: nothing was changed.
        """
        return await self._to_its_end(self._session(doing, surely=False))

    async def write_surely(self, doing: Doing[T]) -> T:
        """The same for work that recognises what an earlier sending of its own has done."""
        return await self._to_its_end(self._session(doing, surely=True))

    async def clock(self) -> Micros:
        """The time by the primary's clock, which all processes on this database share."""
        now: datetime = (await self._database().command("hello"))["localTime"]
        return (now.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)

    def _database(self) -> AsyncDatabase[Document]:
        if self._client is None:
            raise StoreUnavailable("the store is not started")
        return self._client.get_database(
            database_name(self.url),
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=MAJORITY,
        )

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        if len(self._running) >= self._most_waiting:
            work.close()
            raise StoreUnavailable("too many calls wait for the database; try again")
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone

    async def _read(self, doing: Doing[T]) -> T:
        work = Work(self._database())
        for more in reversed(range(MOST_READS)):
            try:
                with pymongo.timeout(self._part):
                    return await doing(work)
            except PyMongoError as error:
                if not (more and error.timeout):
                    raise translated(error) from error
        raise AssertionError("the last time raises")

    async def _session(self, doing: Doing[T], *, surely: bool) -> T:
        """Every sending is a later transaction of one session: MongoDB itself ends the one before, if it is open."""
        database = self._database()
        until = time.monotonic() + self._seconds
        async with database.client.start_session() as session:

            async def send() -> T:
                return await self._send(Work(database, session), session, doing, until)

            try:
                return await (sent(send) if surely else send())
            except CommitUnknown:
                await self._supersede(session)
                raise
            finally:
                await self._abort(session)

    async def _send(self, work: Work, session: AsyncClientSession, doing: Doing[T], until: float) -> T:
        attempt = 0
        busy: _Again | None = None
        while time.monotonic() < until:
            try:
                return await self._try(work, session, doing)
            except _Again as again:
                busy = again
            attempt += 1
            await _pause(attempt)
        raise StoreUnavailable("the database is busy with other transactions; try again") from busy

    async def _try(self, work: Work, session: AsyncClientSession, doing: Doing[T]) -> T:
        await session.start_transaction(
            read_concern=ReadConcern("snapshot"), write_concern=MAJORITY, read_preference=ReadPreference.PRIMARY
        )
        try:
            with pymongo.timeout(self._part):
                result = await doing(work)
        except PyMongoError as error:
            await self._abort(session)
            if error.has_error_label("TransientTransactionError") or is_duplicate(error):
                raise _Again from error
            raise translated(error) from error
        except BaseException:
            await self._abort(session)
            raise
        await self._commit(session)
        return result

    async def _commit(self, session: AsyncClientSession) -> None:
        for more in reversed(range(MOST_COMMITS)):
            try:
                with pymongo.timeout(self._part):
                    await self._send_commit(session)
            except PyMongoError as error:
                if error.has_error_label("TransientTransactionError"):
                    raise _Again from error
                if not (more and error.has_error_label("UnknownTransactionCommitResult")):
                    raise CommitUnknown from error
            else:
                return

    async def _supersede(self, session: AsyncClientSession) -> None:
        """Begin a later transaction: if the one before is still open, MongoDB ends it, and nobody waits for it."""
        with suppress(PyMongoError), pymongo.timeout(self._part):
            await session.start_transaction()
            await self._database()[SCHEMA].find_one({}, session=session)

    async def _abort(self, session: AsyncClientSession) -> None:
        """Undo the transaction, in a time of its own: one that stays open is in everybody's way for a minute."""
        if session.in_transaction:
            with suppress(PyMongoError), pymongo.timeout(self._part):
                await session.abort_transaction()


class _Again(Exception):
    """Another transaction was in the way: the whole transaction may be run again."""


def is_duplicate(error: PyMongoError) -> bool:
    """Whether a unique index refused."""
    if isinstance(error, BulkWriteError):
        return any(one.get("code") == _DUPLICATE for one in (error.details or {}).get("writeErrors", ()))
    return isinstance(error, DuplicateKeyError)


_DUPLICATE: Final = 11000


def check_server(hello: Document) -> None:
    """Refuse a server that cannot keep what we promise."""
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise SettingsError(
            "DATABASE_URL names a MongoDB without a replica set, which has no transactions: "
            "start it with --replSet and run rs.initiate(), one member is enough."
        )
    if hello["maxWireVersion"] < WIRE_VERSION:
        raise SettingsError("DATABASE_URL names a MongoDB that is too old: 6.0 or later is needed.")


async def _pause(attempt: int) -> None:
    """Longer and longer, and never as long as somebody else's."""
    longest = min(0.001 * 2 ** min(attempt, 10), LONGEST_PAUSE_SECONDS)
    await asyncio.sleep(longest * random.random())  # noqa: S311 - chance against collisions, not against people
