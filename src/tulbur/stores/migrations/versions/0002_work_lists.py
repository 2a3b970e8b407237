"""Work lists, looks at payments without a session, deliveries that fail, sweeps. Only adds: the first release goes on.

No row is written. Where the database can, the new indexes hold only the few rows they are for; an index over events,
the largest table, is not among them.

Nobody waits while they are built: PostgreSQL does it beside the transactions of others, once the columns are committed;
MySQL and MariaDB build such indexes online by themselves. Where it is cut short, the next run goes on with it.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, SmallInteger, String, Text, inspect, literal_column, select, text
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.types import TypeEngine

revision = "0002_min0001"
down_revision = "0001_min0001"
branch_labels = None
depends_on = None

_BUILD_SECONDS = 3600
"""How long the building of an index waits for transactions that were open before it."""

_LOCK_SECONDS = 30

# Whatever the server's own defaults are.
_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
}
_BYTEWISE = {"postgresql": "C", "mysql": "utf8mb4_0900_bin", "mariadb": "utf8mb4_nopad_bin"}


def _text(length: int = 255) -> TypeEngine[str]:
    kind = String(length)
    for dialect, collation in _BYTEWISE.items():
        kind = kind.with_variant(String(length, collation=collation), dialect)
    return kind


def _long_text() -> TypeEngine[str]:
    return Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")


def _added() -> dict[str, tuple[Column[Any], ...]]:
    """The new columns of each table; what the release before inserts does not name them."""
    return {
        "tulbur_events": (Column("attempts", SmallInteger, nullable=False, server_default=text("0")),),
        "tulbur_payments": (
            Column("tries", BigInteger, nullable=False, server_default=text("0")),
            Column("closed_at", BigInteger),
            Column("note", _long_text()),
        ),
    }


def upgrade() -> None:
    for table, columns in _added().items():
        for column in columns:
            _add_column(table, column)
    _commit()
    open_ = "session_id IS NULL AND closed_at IS NULL"
    _create_index(
        "tulbur_payments_open", "tulbur_payments", ["session_id", "closed_at", "seen_at", "payment_id"], open_
    )
    _create_index("tulbur_payments_looks", "tulbur_payments", ["due_at", "seen_at", "payment_id"], "due_at IS NOT NULL")
    _create_index("tulbur_payments_held", "tulbur_payments", ["held", "seen_at", "payment_id"], "held > 0")
    op.create_table(
        "tulbur_sweeps",
        Column("id", _text(64), primary_key=True),
        Column("started_at", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        Column("window_start", BigInteger, nullable=False),
        Column("window_end", BigInteger, nullable=False),
        Column("reason", _text(64), nullable=False),
        Column("complete", SmallInteger, nullable=False),
        Column("report", _long_text(), nullable=False),
        if_not_exists=_may_be_half_done() or None,
        **_OPTIONS,
    )
    _create_index("tulbur_sweeps_started", "tulbur_sweeps", ["started_at", "id"])
    _create_index("tulbur_sweeps_complete", "tulbur_sweeps", ["complete", "window_end"])


def downgrade() -> None:
    op.drop_table("tulbur_sweeps")
    for name in ("held", "looks", "open"):
        op.drop_index(f"tulbur_payments_{name}", "tulbur_payments")
    for table, columns in _added().items():
        for column in columns:
            op.drop_column(table, column.name)


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _may_be_half_done() -> bool:
    """MySQL undoes no DDL, and PostgreSQL was told to keep it: a migration that was cut short is gone on with."""
    return op.get_bind().dialect.name in ("postgresql", "mysql", "mariadb")


def _commit() -> None:
    """On PostgreSQL: let others at the tables again, and begin anew."""
    if _is_postgresql():
        op.get_bind().exec_driver_sql("COMMIT")
        op.get_bind().exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")


def _add_column(table: str, column: Column[Any]) -> None:
    if _may_be_half_done() and any(there["name"] == column.name for there in inspect(op.get_bind()).get_columns(table)):
        return
    op.add_column(table, column)


def _create_index(name: str, table: str, columns: list[str], only: str = "") -> None:
    """MySQL has no index over some rows only, and leaves `only` out."""
    if _is_postgresql() and _has_rows(table):
        _build_beside(name, table, columns, only)
        return
    if _may_be_half_done() and any(index["name"] == name for index in inspect(op.get_bind()).get_indexes(table)):
        return
    where: dict[str, Any] = {"postgresql_where": text(only), "sqlite_where": text(only)} if only else {}
    op.create_index(name, table, columns, **where)


def _has_rows(table: str) -> bool:
    return op.get_bind().execute(select(literal_column("1")).select_from(sql_table(table)).limit(1)).first() is not None


def _build_beside(name: str, table: str, columns: list[str], only: str) -> None:
    """On PostgreSQL, outside of any transaction; what an interrupted build left behind is of no use, and removed."""
    connection = op.get_bind()
    connection.exec_driver_sql("COMMIT")
    connection.exec_driver_sql(f"SET lock_timeout = '{_BUILD_SECONDS}s'")
    is_valid = connection.execute(
        text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": name}
    ).scalar()
    if is_valid is False:
        connection.exec_driver_sql(f"DROP INDEX CONCURRENTLY {name}")
    if not is_valid:
        where = f" WHERE {only}" if only else ""
        connection.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON {table} ({', '.join(columns)}){where}")
    connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
    connection.exec_driver_sql("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
