"""The store on a database server, PostgreSQL or MySQL: a bounded pool, and transactions that nobody can cut in half.

Each transaction runs in a task of its own. Whoever awaits it may be cancelled; the transaction goes on to its end, so
that no connection is left checked out or in the middle of anything, and no driver is cancelled while it waits.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import AsyncAdaptedQueuePool, Connection, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tulbur.errors import CommitUnknown, SettingsError, StoreUnavailable, TulburError
from tulbur.ports import Clock
from tulbur.stores import dialects, drivers, migrate, safety
from tulbur.stores.dialects import Verdict
from tulbur.stores.sending import new_commit_id
from tulbur.stores.sql import SqlStore

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

POOL_SIZE: Final = 10
"""Connections of one process."""

WAIT_SECONDS: Final = 5.0
"""How long a call waits for a connection."""

OLDEST_SECONDS: Final = 900
"""After which a connection is replaced, before a firewall forgets it without a word."""

MOST_WAITING: Final = 1000
"""Calls that may be under way or waiting."""

ANSWER_SECONDS: Final = 20.0
"""How long one transaction may take until its connection is cut."""

MOST_TRIES: Final = 8
"""Times one transaction is run while the database asks for that."""

PAUSE_SECONDS: Final = 0.01
"""The longest pause before the second try; it doubles with each."""

STOP_SECONDS: Final = 5.0
"""How long connections may take to say good-bye."""


class NetworkStore(SqlStore):
    """Implements `ports.Store` on PostgreSQL, MySQL and MariaDB; its tables are made by `tulbur migrate`."""

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        *,
        pool_size: int = POOL_SIZE,
        wait_seconds: float = WAIT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        lock_seconds: int = dialects.LOCK_SECONDS,
        most_waiting: int = MOST_WAITING,
        commit_ids: Callable[[], str] = new_commit_id,
    ) -> None:
        super().__init__(clock, commit_ids=commit_ids)
        self.url = url
        self._address = drivers.read(url)
        self._address.driver()
        self._pool = {
            "poolclass": AsyncAdaptedQueuePool,
            "pool_size": pool_size,
            "max_overflow": 0,
            "pool_timeout": wait_seconds,
            "pool_recycle": OLDEST_SECONDS,
            "pool_use_lifo": True,
        }
        self._wait_seconds = wait_seconds
        self._answer_seconds = answer_seconds
        self._lock_seconds = lock_seconds
        self._most_waiting = most_waiting
        self._engine: AsyncEngine | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._trusted_since = 0.0

    async def start(self) -> None:
        if self._engine is not None:
            return
        self._engine = await drivers.engine(self._address, lock_seconds=self._lock_seconds, **self._pool)
        event.listen(self._engine.sync_engine, "connect", _note_birth)
        event.listen(self._engine.sync_engine, "checkout", self._refuse_the_distrusted)
        try:
            await self.ping()
            await self._read(safety.check)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await engine.dispose()
        except (TimeoutError, OSError):
            await engine.dispose(close=False)

    async def ping(self) -> None:
        await self._read(migrate.check)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._in_a_task(lambda engine: self._again_and_again(engine, work, self._transaction))

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._in_a_task(lambda engine: self._again_and_again(engine, work, self._reading))

    async def _in_a_task(self, run: Callable[[AsyncEngine], Coroutine[Any, Any, T]]) -> T:
        if self._engine is None:
            raise StoreUnavailable("the store is not started")
        if len(self._tasks) >= self._most_waiting:
            raise StoreUnavailable("too many calls wait for the database; try again")
        task = asyncio.create_task(run(self._engine))
        self._tasks.add(task)
        task.add_done_callback(self._left)
        return await asyncio.shield(task)

    def _left(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever awaited it may be gone; asyncio would complain that nobody looked.

    async def _again_and_again(
        self,
        engine: AsyncEngine,
        work: Callable[[Connection], T],
        run: Callable[[AsyncConnection, Callable[[Connection], T]], Coroutine[Any, Any, T]],
    ) -> T:
        until = time.monotonic() + self._answer_seconds
        pause = PAUSE_SECONDS
        for tries in range(1, MOST_TRIES + 1):
            connection = await self._checked_out(engine)
            try:
                return await run(connection, work)
            except _Again as again:
                if tries == MOST_TRIES or time.monotonic() >= until:
                    raise drivers.unreachable(self._address, again.cause) from again.cause
            finally:
                await connection.close()
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - only keeps two losers apart
            pause *= 2
        raise AssertionError("the last try returns or raises")

    async def _checked_out(self, engine: AsyncEngine) -> AsyncConnection:
        try:
            async with asyncio.timeout(self._wait_seconds + 2 * drivers.CONNECT_SECONDS):
                return await engine.connect()
        except PoolTimeout as busy:
            raise StoreUnavailable("all connections to the database are busy; try again") from busy
        except TulburError:
            raise
        except Exception as error:
            raise drivers.unreachable(self._address, error) from error

    async def _reading(self, connection: AsyncConnection, work: Callable[[Connection], T]) -> T:
        with self._limited(connection):
            try:
                return await connection.run_sync(work)
            except (SettingsError, StoreUnavailable):
                raise
            except Exception as error:
                raise await self._after_error(connection, error) from error

    async def _transaction(self, connection: AsyncConnection, work: Callable[[Connection], T]) -> T:
        with self._limited(connection):
            try:
                result = await connection.run_sync(lambda c: _begun(c, work))
            except Exception as error:
                raise await self._after_error(connection, error) from error
            try:
                await self._send_commit(connection)
            except Exception as error:
                if dialects.is_undone(error):
                    raise await self._after_error(connection, error) from error
                # Nobody knows what became of it: whoever sent it asks again, over a new connection.
                self._trusted_since = time.monotonic()
                await self._discard(connection)
                raise CommitUnknown from error
        return result

    async def _send_commit(self, connection: AsyncConnection) -> None:
        await connection.exec_driver_sql("COMMIT")

    async def _after_error(self, connection: AsyncConnection, error: Exception) -> Exception:
        """Leave no transaction open, and say what to raise: _Again, StoreUnavailable, or what was no database error."""
        judged = dialects.verdict(error)
        if judged is Verdict.LOST or not await _rolled_back(connection):
            await self._discard(connection)
        if not isinstance(error, DBAPIError | OSError):
            return error
        return drivers.unreachable(self._address, error) if judged is Verdict.REFUSED else _Again(error)

    async def _discard(self, connection: AsyncConnection) -> None:
        _cut(connection)
        if not connection.invalidated:
            await connection.invalidate()

    @contextmanager
    def _limited(self, connection: AsyncConnection) -> Iterator[None]:
        """Cut the connection when this takes too long; nothing is cancelled, so COMMIT keeps its meaning."""
        timer = asyncio.get_running_loop().call_later(self._answer_seconds, _cut, connection)
        try:
            yield
        except asyncio.CancelledError:
            _cut(connection)  # The loop itself ends.
            raise
        finally:
            timer.cancel()

    def _refuse_the_distrusted(self, _raw: object, record: Any, _proxy: object) -> None:  # noqa: ANN401 - the pool's
        """After a lost answer the other connections may lead to a server that is no longer the primary."""
        if record.info["born"] < self._trusted_since:
            raise DisconnectionError


class _Again(Exception):
    """The transaction was rolled back for no fault of its own: it may be run again."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(type(cause)))
        self.cause = cause


def _begun(connection: Connection, work: Callable[[Connection], T]) -> T:
    connection.exec_driver_sql(dialects.BEGIN[connection.dialect.name])
    return work(connection)


async def _rolled_back(connection: AsyncConnection) -> bool:
    try:
        await connection.exec_driver_sql("ROLLBACK")
    except (DBAPIError, OSError):
        return False
    return True


def _note_birth(_raw: object, record: Any) -> None:  # noqa: ANN401 - the pool's record
    record.info["born"] = time.monotonic()


def _driver_connection(connection: AsyncConnection) -> Any:  # noqa: ANN401 - the driver's own
    if connection.closed or connection.invalidated or connection.sync_connection is None:
        return None
    return connection.sync_connection.connection.driver_connection


def _cut(connection: AsyncConnection) -> None:
    raw = _driver_connection(connection)
    if raw is not None:
        drivers.abort(raw)
