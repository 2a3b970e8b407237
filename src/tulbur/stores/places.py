"""Where a schema is brought up or down: a SQLite file, or a database on a server, each under a lock of its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tulbur.errors import Conflict, TulburError
from tulbur.stores import backup, dialects, drivers
from tulbur.stores.schema import VERSION_TABLE, metadata
from tulbur.stores.sqlite_file import connect, database_path, translated

T = TypeVar("T")


class Place(Protocol):
    """One database whose schema can be changed."""

    @property
    def name(self) -> str:
        """What its operator calls it, to confirm that it is this one."""

    def exists(self) -> bool: ...

    def read(self, work: Callable[[Connection], T], seconds: float) -> T: ...

    def locked(self, work: Callable[[Connection], T], seconds: float) -> T:
        """Run `work` while no other process migrates, waiting for that at most so long.

        Where the database can, all of it is committed or nothing.
        """

    def back_up(self, connection: Connection, stamp: str, schema: str) -> Path:
        """Copy what is there, inside `locked`; where the copy is."""


def place(url: str | Path) -> Place:
    """The database of a URL, or of a SQLite file's path.

    Raises:
        SettingsError: it names none.
    """
    if isinstance(url, str) and url.partition("://")[0].partition("+")[0] in drivers.KINDS:
        return ServerPlace(url)
    return FilePlace(database_path(url))


class FilePlace:
    """A SQLite file; its lock is the one for writing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = path.name

    def exists(self) -> bool:
        return self._path.exists()

    def read(self, work: Callable[[Connection], T], seconds: float) -> T:
        with closing(connect(self._path, seconds)) as connection:
            try:
                return work(connection)
            except DBAPIError as error:
                raise translated(error) from error

    def locked(self, work: Callable[[Connection], T], seconds: float) -> T:
        return self.read(lambda c: _in_transaction(c, work, "BEGIN IMMEDIATE"), seconds)

    def back_up(self, connection: Connection, stamp: str, schema: str) -> Path:
        """A copy of the file beside it: `connection` holds the lock, so nothing changes meanwhile."""
        del connection, schema
        copy = self._path.with_name(f"{self.name}.{stamp}.backup")
        try:
            copy.open("xb").close()
        except FileExistsError:
            raise Conflict(f"there is a backup {copy.name} already: choose another stamp") from None
        with closing(sqlite3.connect(self._path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        return copy


class ServerPlace:
    """A database on PostgreSQL or MySQL."""

    def __init__(self, url: str) -> None:
        self._address = drivers.read(url)
        self.name = self._address.database

    def exists(self) -> bool:
        return True

    def read(self, work: Callable[[Connection], T], seconds: float) -> T:
        del seconds
        return _in_a_loop(lambda: self._run(work))

    def locked(self, work: Callable[[Connection], T], seconds: float) -> T:
        def run(connection: Connection) -> T:
            dialects.take_migration_lock(connection, seconds)
            return _in_transaction(connection, work, dialects.BEGIN[connection.dialect.name])

        return _in_a_loop(lambda: self._run(run))

    def back_up(self, connection: Connection, stamp: str, schema: str) -> Path:
        """Our tables as lines of JSON, in the working directory."""
        dialects.lock_tables(connection, [*metadata.tables, VERSION_TABLE])
        path = Path.cwd() / f"{self.name}.{stamp}.backup.jsonl"
        backup.dump(connection, path, schema)
        return path

    async def _run(self, work: Callable[[Connection], T]) -> T:
        engine = await drivers.engine(self._address)
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(work)
        except TulburError:
            raise
        except Exception as error:
            if isinstance(error, DBAPIError | OSError) or dialects.code(error):
                raise drivers.unreachable(self._address, error) from error
            raise


def _in_transaction(connection: Connection, work: Callable[[Connection], T], begin: str) -> T:
    connection.exec_driver_sql(begin)
    result = work(connection)
    connection.exec_driver_sql("COMMIT")
    return result


def _in_a_loop(run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in a thread with a loop of its own: whoever calls may be in a loop, and waits."""
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(asyncio.run(run()))
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            failed.append(error)

    thread = threading.Thread(target=work, name="tulbur-migrate")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
