"""A SQLite file as tulbur opens it: with a write-ahead log, and commits that reach the disk before they return."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from tulbur.errors import SettingsError, StoreUnavailable

MOST_TRIES: Final = 4
"""Times a new file is switched to its mode while another process is doing the same."""

LOCKED: Final = "another process holds the database locked"

_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_MESSAGES: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_READONLY: "the database cannot be written",
    sqlite3.SQLITE_PERM: "the database cannot be written",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database",
}


def database_path(path_or_url: str | Path) -> Path:
    """The file of `sqlite:///relative`, `sqlite:////absolute` or a plain path.

    Raises:
        SettingsError: it names no file.
    """
    text = str(path_or_url)
    if "://" in text:
        try:
            url = make_url(text)
        except ArgumentError:
            raise SettingsError("DATABASE_URL cannot be read; write sqlite:///tulbur.db") from None
        if url.get_backend_name() != "sqlite" or url.query:
            raise SettingsError("this is not the address of a SQLite file; write sqlite:///tulbur.db")
        text = url.database or ""
    if text in ("", ":memory:") or text.startswith("file:"):
        raise SettingsError("SQLite needs a file to keep sessions in; write sqlite:///tulbur.db")
    return Path(text).absolute()


def connect(path: Path, busy_seconds: float, *, read_only: bool = False) -> Connection:
    """Open one connection whose transactions begin and end only where our code says so.

    Raises:
        StoreUnavailable: the file cannot be opened, or not in the mode we rely on.
    """
    try:
        connection = _engine(path, busy_seconds).connect()
    except DBAPIError as error:
        raise translated(error) from error
    try:
        _set_up(connection, read_only=read_only)
    except DBAPIError as error:
        connection.close()
        raise translated(error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _engine(path: Path, busy_seconds: float) -> Engine:
    def open_file() -> sqlite3.Connection:
        # isolation_level None: the driver itself begins no transaction. Each connection stays in one thread, except
        # when a store that was never stopped is collected.
        return sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)

    return create_engine(
        "sqlite://", creator=open_file, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
    )


def _set_up(connection: Connection, *, read_only: bool) -> None:
    for _ in range(MOST_TRIES - 1):
        # Two processes that switch a new file to WAL at once: SQLite does not wait here as it does elsewhere.
        try:
            mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
            break
        except DBAPIError as error:
            if _code(error) not in _BUSY:
                raise
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.exec_driver_sql("ROLLBACK")
    else:
        mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
    if mode != "wal":
        raise StoreUnavailable("SQLite cannot keep a write-ahead log here; use a local disk")
    connection.exec_driver_sql("PRAGMA synchronous=FULL")
    # What was blanked must not be readable in the file's free pages.
    connection.exec_driver_sql("PRAGMA secure_delete=ON")
    connection.exec_driver_sql("PRAGMA foreign_keys=ON")
    if read_only:
        connection.exec_driver_sql("PRAGMA query_only=ON")


def is_busy(error: DBAPIError) -> bool:
    return _code(error) in _BUSY


def _code(error: DBAPIError) -> int:
    """SQLite's primary result code; the low byte of the extended one."""
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


def translated(error: DBAPIError) -> StoreUnavailable:
    """The one table from the driver's errors to ours."""
    return StoreUnavailable(_MESSAGES.get(_code(error), f"the database refused: {error.orig}"))
