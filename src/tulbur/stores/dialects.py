"""The two things in which the databases differ for us: how to insert only what is new, and what time it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Executable, Select, Table, literal_column, select
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from tulbur.core.session import Micros

_INSERTS: Final[Mapping[str, Callable[[Table], Executable]]] = {
    "sqlite": lambda table: sqlite_insert(table).on_conflict_do_nothing(),
}

_CLOCKS: Final[Mapping[str, Select[int]]] = {
    # SQLite's own time has milliseconds; 2440587.5 is 1970-01-01 as a Julian day.
    "sqlite": select(
        literal_column("CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000", BigInteger)
    ),
}


@cache
def _insert(dialect: str, table: Table) -> Executable:
    return _INSERTS[dialect](table)


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that break no unique key; how many were inserted."""
    statement = _insert(connection.dialect.name, table)
    # Without this option SQLAlchemy promises a row count for UPDATE and DELETE only.
    done = connection.execute(statement, rows, execution_options={"preserve_rowcount": True})
    return done.rowcount


def database_clock(connection: Connection) -> Micros:
    """The time by the clock that all processes on this database share."""
    return connection.execute(_CLOCKS[connection.dialect.name]).scalar_one()
