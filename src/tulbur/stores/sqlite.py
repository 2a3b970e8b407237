"""The SQLite store: one writing and one reading thread per process, any number of processes on one file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tulbur.errors import CommitUnknown, StoreUnavailable
from tulbur.ports import Clock
from tulbur.stores import migrate
from tulbur.stores.lane import Lane
from tulbur.stores.sending import new_commit_id
from tulbur.stores.sql import SqlStore
from tulbur.stores.sqlite_file import LOCKED, connect, database_path, is_busy, translated

T = TypeVar("T")

MOST_WAITING: Final = 1000
"""Calls that may wait for one thread."""

BUSY_SECONDS: Final = 10.0
"""How long a transaction is tried while other processes hold the lock."""

REPLACED: Final = "the database file was moved or replaced: put it back, or restart tulbur to use what is there now"

SHORT_WAIT_MILLISECONDS: Final = 10
"""How long SQLite itself waits for the writing lock in each try."""


class SqliteStore(SqlStore):
    """Implements `ports.Store` on a file; an empty one gets its tables at `start`."""

    def __init__(
        self,
        path_or_url: str | Path,
        clock: Clock | None = None,
        *,
        busy_seconds: float = BUSY_SECONDS,
        most_waiting: int = MOST_WAITING,
        commit_ids: Callable[[], str] = new_commit_id,
    ) -> None:
        super().__init__(clock, commit_ids=commit_ids)
        self.path = database_path(path_or_url)
        self._busy_seconds = busy_seconds
        self._most_waiting = most_waiting
        self._writer: Lane | None = None
        self._reader: Lane | None = None
        self._file: tuple[int, int] | None = None

    async def start(self) -> None:
        if self._writer is not None:
            return
        self._writer = Lane("write", self._connect_to_write, self._most_waiting)
        self._reader = Lane("read", lambda: connect(self.path, self._busy_seconds, read_only=True), self._most_waiting)
        try:
            await self._writer.run(self._prepare)
            self._file = _identity(self.path)
            await self.ping()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        reader, writer, self._reader, self._writer = self._reader, self._writer, None, None
        self._file = None
        try:
            if reader is not None:
                await reader.close()
        finally:
            # The writer goes last: closing the last connection folds the write-ahead log into the file.
            if writer is not None:
                await writer.close()

    async def ping(self) -> None:
        await self._read(migrate.check)

    async def _write(self, work: Callable[[Connection], T]) -> T:
        lane = _started(self._writer)
        # From here on, not from its turn: else a lock that stays makes each wait as long as all before it together.
        until = time.monotonic() + self._busy_seconds
        return await lane.run(lambda: self._transaction(lane, work, until))

    async def _read(self, work: Callable[[Connection], T]) -> T:
        lane = _started(self._reader)
        return await lane.run(lambda: self._reading(lane, work))

    def _connect_to_write(self) -> Connection:
        connection = connect(self.path, self._busy_seconds)
        # SQLite waits longer and longer for a lock, and so comes too late again and again while another process has
        # much to write. Short waits, repeated by us, get their turn.
        connection.exec_driver_sql(f"PRAGMA busy_timeout={SHORT_WAIT_MILLISECONDS}")
        return connection

    def _prepare(self) -> None:
        """Make the tables of an empty database; the lock decides between two processes that start at once."""
        lane = _started(self._writer)
        if self._reading(lane, migrate.is_empty):
            migrate.up(self.path)

    def _reading(self, lane: Lane, work: Callable[[Connection], T]) -> T:
        self._check_file()
        try:
            return work(lane.connection())
        except DBAPIError as error:
            lane.drop()
            raise translated(error) from error

    def _transaction(self, lane: Lane, work: Callable[[Connection], T], until: float) -> T:
        """Run the whole transaction again and again while another process is in the way, until then."""
        while True:
            try:
                return self._try(lane, work)
            except _Busy as busy:
                if time.monotonic() >= until:
                    raise StoreUnavailable(LOCKED) from busy

    def _try(self, lane: Lane, work: Callable[[Connection], T]) -> T:
        self._check_file()
        try:
            connection = lane.connection()
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            result = work(connection)
            self._check_file()
        except BaseException as error:
            _roll_back(lane)
            if not isinstance(error, DBAPIError):
                raise
            if is_busy(error):
                raise _Busy from error
            raise translated(error) from error
        try:
            self._send_commit(connection)
        except DBAPIError as error:
            if is_busy(error):
                _roll_back(lane)
                raise _Busy from error
            # Nobody knows what became of it: whoever sent it asks again, over a new connection.
            lane.drop()
            raise CommitUnknown(f"the database did not commit, or did not say so: {translated(error)}") from error
        return result

    def _check_file(self) -> None:
        """SQLite goes on writing into a file that was deleted or moved away, and nobody would ever read it.

        Raises:
            StoreUnavailable: the file is not the one that was opened; put back, it is used again.
        """
        if self._file is not None and _identity(self.path) != self._file:
            raise StoreUnavailable(REPLACED)

    def _send_commit(self, connection: Connection) -> None:
        connection.exec_driver_sql("COMMIT")


class _Busy(Exception):
    """Another process holds the lock: the whole transaction may be run again."""


def _started(lane: Lane | None) -> Lane:
    if lane is None:
        raise StoreUnavailable("the store is not started")
    return lane


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _roll_back(lane: Lane) -> None:
    """End whatever transaction there is; a connection that cannot do that is given up."""
    connection = lane.ongoing()
    if connection is None:
        return
    try:
        if getattr(connection.connection.dbapi_connection, "in_transaction", True):
            connection.exec_driver_sql("ROLLBACK")
    except DBAPIError:
        lane.drop()
