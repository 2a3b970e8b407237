"""Everything in which the databases differ for us: what they are told, and what their errors mean."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, Executable, Select, Table, insert, literal_column, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.util import await_only

from tulbur.core.session import Micros
from tulbur.errors import StoreUnavailable

BYTEWISE: Final[Mapping[str, str]] = {
    "postgresql": "C",
    "mysql": "utf8mb4_0900_bin",
    "mariadb": "utf8mb4_nopad_bin",
}
"""The collations under which S1, s1 and "S1 " are three; SQLite compares text so by itself."""

# --- inserting what is new -----------------------------------------------------------------------------------------

_DUPLICATE: Final = 1062


@cache
def _insert(dialect: str, table: Table) -> Executable:
    if dialect == "sqlite":
        return sqlite_insert(table).on_conflict_do_nothing()
    if dialect == "postgresql":
        # asyncpg counts no rows of several executions; those that come back are counted instead.
        return postgresql_insert(table).on_conflict_do_nothing().returning(next(iter(table.primary_key)))
    # Not INSERT IGNORE: that would also let through what is too long, or null.
    return insert(table)


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that break no unique key; how many were inserted."""
    dialect = connection.dialect.name
    statement = _insert(dialect, table)
    if dialect == "sqlite":
        # Without this option SQLAlchemy promises a row count for UPDATE and DELETE only.
        return connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount
    if dialect == "postgresql":
        return len(connection.execute(statement, rows).all())
    return sum(_inserted(connection, statement, row) for row in rows)


def _inserted(connection: Connection, statement: Executable, row: Mapping[str, Any]) -> bool:
    try:
        connection.execute(statement, row)
    except IntegrityError as error:
        # MySQL undoes this one statement and goes on with the transaction.
        if code(error) != _DUPLICATE:
            raise
        return False
    return True


# --- the clock -----------------------------------------------------------------------------------------------------


def _micros(expression: str) -> Select[int]:
    return select(literal_column(expression, BigInteger))


_MYSQL_CLOCK: Final = _micros("CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)")
_CLOCKS: Final[Mapping[str, Select[int]]] = {
    # SQLite's own time has milliseconds; 2440587.5 is 1970-01-01 as a Julian day.
    "sqlite": _micros("CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000"),
    "postgresql": _micros("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"),
    "mysql": _MYSQL_CLOCK,
    "mariadb": _MYSQL_CLOCK,
}


def database_clock(connection: Connection) -> Micros:
    """The time by the clock that all processes on this database share."""
    return connection.execute(_CLOCKS[connection.dialect.name]).scalar_one()


# --- the order of rows in which a column is null ---------------------------------------------------------------------


def order_of(
    connection: Connection, nulls: Sequence[ColumnElement[Any]], *columns: ColumnElement[Any]
) -> Sequence[ColumnElement[Any]]:
    """The order `columns` of rows in which `nulls` are null, by an index over all of them.

    PostgreSQL sees that the index has it only when `nulls` are named; MySQL and MariaDB only when they are not.
    """
    return (*nulls, *columns) if connection.dialect.name == "postgresql" else columns


# --- sessions with a server ----------------------------------------------------------------------------------------

LOCK_SECONDS: Final = 5
"""How long a statement waits for another transaction's lock."""

IDLE_SECONDS: Final = 60
"""How long a transaction may stand still: a process that is stopped, or without its host, holds rows no longer."""

UNUSED_SECONDS: Final = 1000
"""The same for MySQL, which can tell a connection no closer limit; longer than a pool keeps one."""


def postgresql_settings(lock_seconds: int = LOCK_SECONDS) -> dict[str, str]:
    """What a session starts with, whatever the server, the database or the role prefer.

    No `statement_timeout`: it would cut short a COMMIT that waits for its standby, and call that a success.
    The driver sends a statement in two parts. A session whose client is gone between them is no idle one, and holds its
    locks until the server's TCP notices: after two hours, if nothing else is asked for, and here after one minute.
    """
    return {
        "application_name": "tulbur",
        "timezone": "UTC",
        "statement_timeout": "0",
        "lock_timeout": f"{lock_seconds}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "default_transaction_isolation": "read committed",
    }


def mysql_settings(lock_seconds: int = LOCK_SECONDS, *, galera: bool = False) -> Sequence[str]:
    """What a session is told first."""
    strict = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO"
    # The driver logs warnings, and in strict mode none of them is about our data.
    quiet = "sql_notes = 0, max_error_count = 0"
    # What is in the comment only MariaDB reads.
    idle = f"wait_timeout = {UNUSED_SECONDS} /*M! , idle_transaction_timeout = {IDLE_SECONDS} */"
    chosen = f"sql_mode = '{strict}', time_zone = '+00:00', default_storage_engine = 'InnoDB', {quiet}"
    return (
        f"SET SESSION {chosen}, innodb_lock_wait_timeout = {lock_seconds}, {idle}",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        # A node may be behind what another has answered: it is not read before it has caught up.
        *(("SET SESSION wsrep_sync_wait = 1",) if galera else ()),
    )


BEGIN: Final[Mapping[str, str]] = {
    "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    "mysql": "START TRANSACTION READ WRITE",
    "mariadb": "START TRANSACTION READ WRITE",
}

# --- a lock for migrations -----------------------------------------------------------------------------------------

_MIGRATION_KEY: Final = 0x74756C627572  # "tulbur"


TRY_SECONDS: Final = 0.1
"""How often the lock is tried."""


def take_migration_lock(connection: Connection, seconds: float) -> None:
    """Wait until no other process migrates this database; the lock ends with the connection.

    Raises:
        StoreUnavailable: another process held it all the time.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET lock_timeout = '{max(1, round(seconds * 1000))}ms'")
        for wait in (*([TRY_SECONDS] * round(seconds / TRY_SECONDS)), 0):
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_MIGRATION_KEY})").scalar():
                return
            # Not inside of a statement: its snapshot would be in the way of an index that the other is building.
            await_only(asyncio.sleep(wait))
        raise StoreUnavailable("another process holds the database locked")
    # A name of at most 64 characters, for this database alone.
    lock = f"GET_LOCK(CONCAT('tulbur-', MD5(DATABASE())), {seconds:.3f})"
    if connection.exec_driver_sql(f"SELECT {lock}").scalar() != 1:
        raise StoreUnavailable("another process holds the database locked")


def lock_tables(connection: Connection, tables: Sequence[str]) -> None:
    """Keep everybody else from writing these until the transaction, or the connection, ends."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
    else:
        connection.exec_driver_sql("LOCK TABLES " + ", ".join(f"{table} WRITE" for table in tables))


# --- what errors mean ----------------------------------------------------------------------------------------------


class Verdict(Enum):
    """What is to be done after an error inside a transaction."""

    AGAIN = "again"  # rolled back for no fault of ours: run the whole transaction again
    LOST = "lost"  # the connection is gone
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class _Errors:
    """One database's codes; `messages` in plain words, never with what the database says: that may hold data."""

    again: frozenset[str | int]
    lost: frozenset[str | int]
    undone: frozenset[str | int]
    """A COMMIT answered so has changed nothing; any other error leaves that open."""
    messages: Mapping[str | int, str] = field(default_factory=dict)


_POSTGRESQL: Final = _Errors(
    # serialization failure, deadlock, lock timeout, unique violation (two publishers), plan of an old schema
    again=frozenset({"40001", "40P01", "55P03", "23505", "0A000"}),
    # ended by the server or its operator; or a primary no more, while another has become it
    lost=frozenset({"57P01", "57P02", "57P05", "25P03", "25P04", "08000", "08003", "08006", "08007", "25006"}),
    undone=frozenset({"40001", "40P01", "23505"}),
    messages={
        "28P01": "it refuses this user or password: correct them in DATABASE_URL",
        "28000": "it refuses this user from here, or wants TLS: add sslmode=require to DATABASE_URL, or name this host "
        "in its pg_hba.conf",
        "3D000": "there is no database of that name: create it, or correct DATABASE_URL",
        "42501": "this user may not do that: grant it all rights on tulbur's tables",
        "25006": "the database is read-only, as a standby is: name the primary in DATABASE_URL",
        "40P01": "transactions got in each other's way too often",
        "40001": "transactions got in each other's way too often",
        "55P03": "another process holds the database locked",
        "53100": "its disk is full: make room there",
        "53300": "it takes no more connections: raise max_connections, or run fewer processes",
        "57P03": "it is starting or stopping: wait, or see its log",
    },
)
_MYSQL: Final = _Errors(
    # deadlock (and Galera's conflict at COMMIT), lock timeout, unique violation (two publishers), record changed; and a
    # savepoint that is gone: a deadlock rolled back all of the transaction, and this is what leaving it then says
    again=frozenset({1213, 1205, 1062, 1020, 1305}),
    # 1047: a node of a Galera cluster that does not belong to its majority, or not yet
    lost=frozenset({1047, 1053, 1152, 1158, 1159, 1160, 1161, 1317, 1927, 2006, 2013, 2055, 4031, 1290, 1792, 1836}),
    undone=frozenset({1213, 1020}),
    messages={
        1047: "this node of the cluster has no majority, or is not ready yet",
        1044: "this user may not use that database: correct DATABASE_URL, or grant it the rights",
        1045: "it refuses this user or password: correct them in DATABASE_URL; if it takes only TLS, "
        "add ssl_mode=required",
        1698: "it refuses this user or password: correct them in DATABASE_URL",
        1130: "it lets nobody in from this machine: grant that to the user of DATABASE_URL",
        3159: "it takes connections with TLS only: add ssl_mode=required to DATABASE_URL",
        1049: "there is no database of that name: create it, or correct DATABASE_URL",
        1142: "this user may not do that: grant it all rights on tulbur's tables",
        1021: "its disk is full: make room there",
        1114: "its disk is full: make room there",
        1040: "it takes no more connections: raise max_connections, or run fewer processes",
        1203: "it takes no more connections: raise max_connections, or run fewer processes",
        1205: "another process holds the database locked",
        1213: "transactions got in each other's way too often",
        1290: "the database is read-only, as a replica is: name the primary in DATABASE_URL",
        1792: "the database is read-only, as a replica is: name the primary in DATABASE_URL",
        1836: "the database is read-only, as a replica is: name the primary in DATABASE_URL",
    },
)


def code(error: BaseException) -> str | int:
    """PostgreSQL's SQLSTATE or MySQL's number; "" when the error is of neither."""
    original = error.orig if isinstance(error, DBAPIError) else error
    first = next(iter(getattr(original, "args", ())), "")
    if isinstance(first, int) and not isinstance(original, OSError):
        return first
    state = getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else ""


def verdict(error: BaseException) -> Verdict:
    """What an error inside a transaction, before COMMIT, calls for."""
    found = code(error)
    if found in _errors(found).again:
        return Verdict.AGAIN
    broken = isinstance(error, OSError) or (isinstance(error, DBAPIError) and error.connection_invalidated)
    return Verdict.LOST if broken or found in _errors(found).lost else Verdict.REFUSED


def is_undone(error: BaseException) -> bool:
    """Whether a COMMIT that was answered so has certainly changed nothing."""
    found = code(error)
    return found in _errors(found).undone


_CLASSES: Final[Mapping[str, str]] = {
    # asyncpg found no host that is what we ask for.
    "TargetServerAttributeNotMatched": _POSTGRESQL.messages["25006"],
}
_SILENT: Final = "it does not answer in time: see whether it is overloaded, or something else listens there"


def explained(error: BaseException) -> str:
    """The error in our words and without anything the database quoted."""
    found = code(error)
    known = _errors(found).messages.get(found) or _CLASSES.get(type(error).__name__)
    if known:
        return known
    if isinstance(error, TimeoutError):
        return _SILENT
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    cause = original.__cause__ or original
    if verdict(error) is Verdict.LOST and not isinstance(cause, OSError):
        return "the connection was lost, or it did not answer in time"
    if isinstance(cause, OSError):
        return _unconnected(cause)
    return f"it refused: {type(cause).__name__}" + (f" ({found})" if found else "")


def _unconnected(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        told = getattr(error, "verify_message", "")
        if not told:
            return "it speaks no TLS as DATABASE_URL asks for: set TLS up there, or take that out"
        return f"its certificate is not accepted ({told}): name its authority in DATABASE_URL, or renew it"
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return "it has no TLS, which DATABASE_URL asks for: set TLS up there, or take that out"
    return f"it cannot be reached ({_reason(error)})"


def _reason(error: OSError) -> str:
    # asyncio puts the address there; the error's own text is plainer. Name look-ups have negative numbers.
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or type(error).__name__


def _errors(found: str | int) -> _Errors:
    return _MYSQL if isinstance(found, int) else _POSTGRESQL
