"""What a database server must be like for the laws to hold; a start on anything else is refused, in one sentence."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from tulbur.errors import SettingsError
from tulbur.stores.dialects import BYTEWISE

OLDEST_MYSQL: Final = (8, 0, 17)
"""The first release with a collation that compares bytes and pads nothing."""

_ENGINES: Final = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() "
    "AND table_name LIKE 'tulbur%%' AND engine <> 'InnoDB' ORDER BY table_name"
)
_COLLATIONS: Final = (
    "SELECT CONCAT(table_name, '.', column_name) FROM information_schema.columns WHERE table_schema = DATABASE() "
    "AND table_name LIKE 'tulbur%%' AND table_name <> 'tulbur_alembic_version' "
    "AND data_type = 'varchar' AND collation_name <> '{}' ORDER BY 1"
)


def check(connection: Connection) -> None:
    """Return when orders are safe on this server.

    Raises:
        SettingsError: they are not; it says what to change.
    """
    if connection.dialect.name == "postgresql":
        _check_postgresql(connection)
    else:
        _check_mysql(connection)


def _check_postgresql(connection: Connection) -> None:
    if _one(connection, "SHOW server_encoding") != "UTF8":
        raise SettingsError("the PostgreSQL database is not in UTF8: create one with ENCODING 'UTF8'.")
    if _one(connection, "SHOW synchronous_commit") == "off":
        raise SettingsError(
            "PostgreSQL has synchronous_commit off, so an order that was promised may be lost: set it to on, at least "
            "for this database (ALTER DATABASE … SET synchronous_commit = on)."
        )


def _check_mysql(connection: Connection) -> None:
    maria = connection.dialect.name == "mariadb"
    version = connection.dialect.server_version_info or ()
    if not maria and tuple(version) < OLDEST_MYSQL:
        raise SettingsError("this MySQL is too old: tulbur needs 8.0.17 or later, or MariaDB 10.6 or later.")
    level = _one(connection, "SELECT @@tx_isolation" if maria else "SELECT @@transaction_isolation")
    if level != "READ-COMMITTED":
        raise SettingsError(
            f"the database runs our sessions at {level} although we ask for READ COMMITTED: let it, or its proxy, obey."
        )
    if _one(connection, "SELECT @@log_bin AND @@binlog_format = 'STATEMENT'"):
        raise SettingsError("MySQL's binlog_format STATEMENT cannot be used with READ COMMITTED: set it to ROW.")
    _check_tables(connection, BYTEWISE[connection.dialect.name])


def _check_tables(connection: Connection, collation: str) -> None:
    table = _one(connection, _ENGINES)
    if table:
        raise SettingsError(
            f"the table {table} is in an engine without transactions: ALTER TABLE {table} ENGINE=InnoDB, "
            "and `tulbur doctor` again."
        )
    column = _one(connection, _COLLATIONS.format(collation))
    if column:
        raise SettingsError(
            f"the column {column} does not compare ids as bytes, so two of them could be taken for one: "
            f"give it back its collation {collation}."
        )


def _one(connection: Connection, query: str) -> object:
    return connection.exec_driver_sql(query).scalar()
