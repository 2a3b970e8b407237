"""The schema of the first day."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, LargeBinary, SmallInteger, String, Text, inspect
from sqlalchemy.dialects.mysql import MEDIUMBLOB, MEDIUMTEXT
from sqlalchemy.types import TypeEngine

revision = "0001_min0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    "tulbur_sessions",
    "tulbur_invoices",
    "tulbur_payments",
    "tulbur_orders",
    "tulbur_events",
    "tulbur_tokens",
    "tulbur_leases",
    "tulbur_tallies",
)
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


def _bytes() -> TypeEngine[bytes]:
    return LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb")


def upgrade() -> None:
    _sessions()
    _invoices()
    _payments()
    _orders()
    _events()
    _tokens()
    _leases()
    _tallies()


def downgrade() -> None:
    for name in reversed(_TABLES):
        op.drop_table(name)


def _half_done() -> bool:
    """MySQL undoes no DDL: a migration that was cut short is gone on with."""
    return op.get_bind().dialect.name in ("mysql", "mariadb")


def _create_table(name: str, *columns: Column[Any]) -> None:
    op.create_table(name, *columns, if_not_exists=_half_done() or None, **_OPTIONS)


def _create_index(name: str, table: str, columns: list[str], *, unique: bool = False) -> None:
    if _half_done() and any(index["name"] == name for index in inspect(op.get_bind()).get_indexes(table)):
        return
    op.create_index(name, table, columns, unique=unique)


def _sessions() -> None:
    _create_table(
        "tulbur_sessions",
        Column("id", _text(), primary_key=True),
        Column("version", BigInteger, nullable=False),
        Column("status", _text(16), nullable=False),
        Column("exceptions", _text(), nullable=False),
        Column("user_id", _text(), nullable=False),
        Column("scope", _text(), nullable=False),
        Column("idempotency_key", _text()),
        Column("body_digest", _text(128), nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("currency", _text(8), nullable=False),
        Column("unsettled", BigInteger, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        Column("next_check_at", BigInteger),
        Column("lease_owner", _text()),
        Column("lease_until", BigInteger, nullable=False),
        Column("commit_id", _text(64), nullable=False),
        Column("blanked_at", BigInteger),
        Column("document", _bytes(), nullable=False),
    )
    _create_index("tulbur_sessions_key", "tulbur_sessions", ["scope", "idempotency_key"], unique=True)
    _create_index("tulbur_sessions_created", "tulbur_sessions", ["created_at", "id"])
    _create_index("tulbur_sessions_status", "tulbur_sessions", ["status", "created_at", "id"])
    _create_index("tulbur_sessions_user", "tulbur_sessions", ["user_id", "created_at", "id"])
    _create_index("tulbur_sessions_exceptions", "tulbur_sessions", ["exceptions", "created_at", "id"])
    _create_index("tulbur_sessions_due", "tulbur_sessions", ["next_check_at", "id"])
    _create_index("tulbur_sessions_blank", "tulbur_sessions", ["status", "blanked_at", "unsettled", "updated_at"])


def _invoices() -> None:
    _create_table(
        "tulbur_invoices",
        Column("session_id", _text(), primary_key=True),
        Column("number", SmallInteger, primary_key=True, autoincrement=False),
        Column("provider", _text(16), nullable=False),
        Column("invoice_id", _text()),
        Column("sender_invoice_no", _text(), nullable=False),
        Column("state", _text(16), nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("deadline", BigInteger, nullable=False),
    )
    _create_index("tulbur_invoices_id", "tulbur_invoices", ["provider", "invoice_id"], unique=True)
    _create_index("tulbur_invoices_sender", "tulbur_invoices", ["sender_invoice_no"], unique=True)


def _payments() -> None:
    _create_table(
        "tulbur_payments",
        Column("provider", _text(16), primary_key=True),
        Column("payment_id", _text(), primary_key=True),
        Column("session_id", _text()),
        Column("hinted_session_id", _text(), nullable=False),
        Column("invoice_id", _text(), nullable=False),
        Column("amount", BigInteger),
        Column("currency", _text(8), nullable=False),
        Column("status", _text(32), nullable=False),
        Column("method", _text(64), nullable=False),
        Column("wallet", _text(), nullable=False),
        Column("seen_at", BigInteger, nullable=False),
        Column("due_at", BigInteger),
        Column("paid_at", BigInteger),
        Column("ordered", BigInteger, nullable=False),
        Column("refund_due", BigInteger, nullable=False),
        Column("refunded", BigInteger, nullable=False),
        Column("held", BigInteger, nullable=False),
        Column("raw", _long_text(), nullable=False),
    )
    _create_index("tulbur_payments_session", "tulbur_payments", ["session_id", "seen_at", "payment_id"])
    _create_index("tulbur_payments_refund_due", "tulbur_payments", ["refund_due", "currency"])


def _orders() -> None:
    _create_table(
        "tulbur_orders",
        Column("id", _text(64), primary_key=True),
        Column("session_id", _text(), nullable=False),
        Column("shop_id", _text(), nullable=False),
        Column("total", BigInteger, nullable=False),
        Column("discount", BigInteger, nullable=False),
        Column("shipping_amount", BigInteger, nullable=False),
        Column("currency", _text(8), nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("items", _bytes(), nullable=False),
    )
    _create_index("tulbur_orders_shop", "tulbur_orders", ["session_id", "shop_id"], unique=True)


def _events() -> None:
    _create_table(
        "tulbur_events",
        Column("id", _text(64), primary_key=True),
        Column("session_id", _text(), nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("type", _text(64), nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("no", BigInteger),
        Column("lease_owner", _text()),
        Column("lease_until", BigInteger, nullable=False),
        Column("commit_id", _text(64), nullable=False),
        Column("data", _long_text(), nullable=False),
    )
    _create_index("tulbur_events_session", "tulbur_events", ["session_id", "seq"], unique=True)
    _create_index("tulbur_events_no", "tulbur_events", ["no"], unique=True)
    _create_index("tulbur_events_outbox", "tulbur_events", ["state", "no", "at"])
    _create_index("tulbur_events_commit", "tulbur_events", ["commit_id"])


def _tokens() -> None:
    _create_table(
        "tulbur_tokens",
        Column("login", _text(), primary_key=True),
        Column("access_token", _long_text(), nullable=False),
        Column("refresh_token", _long_text(), nullable=False),
        Column("expires_at", BigInteger, nullable=False),
    )


def _leases() -> None:
    _create_table(
        "tulbur_leases",
        Column("name", _text(), primary_key=True),
        Column("owner", _text(), nullable=False),
        Column("until", BigInteger, nullable=False),
    )


def _tallies() -> None:
    _create_table(
        "tulbur_tallies",
        Column("hour", BigInteger, primary_key=True, autoincrement=False),
        Column("name", _text(64), primary_key=True),
        Column("count", BigInteger, nullable=False),
    )
