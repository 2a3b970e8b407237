"""The tables, as SQLAlchemy Core describes them; the migrations make exactly these.

Times are microseconds, amounts möngö. Nothing here is deleted: the rows hold the keys that make an order set unique.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, SmallInteger, String, Table, Text, text
from sqlalchemy.dialects.mysql import MEDIUMBLOB, MEDIUMTEXT
from sqlalchemy.types import TypeEngine

from tulbur.stores.dialects import BYTEWISE

VERSION_TABLE: Final = "tulbur_alembic_version"


def _text(length: int = 255) -> TypeEngine[str]:
    """Text that is compared as bytes by every engine."""
    kind = String(length)
    for dialect, collation in BYTEWISE.items():
        kind = kind.with_variant(String(length, collation=collation), dialect)
    return kind


def _long_text() -> TypeEngine[str]:
    return Text().with_variant(MEDIUMTEXT(), "mysql", "mariadb")


def _bytes() -> TypeEngine[bytes]:
    return LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb")


def _sparse(name: str, *columns: str, only: str) -> Index:
    """An index over few rows; MySQL has none such, and puts all of them into it."""
    return Index(name, *columns, postgresql_where=text(only), sqlite_where=text(only))


metadata = MetaData()

sessions = Table(
    "tulbur_sessions",
    metadata,
    Column("id", _text(), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("status", _text(16), nullable=False),
    Column("exceptions", _text(), nullable=False),  # ",late,overpaid,", or ""
    Column("user_id", _text(), nullable=False),
    Column("scope", _text(), nullable=False),
    Column("idempotency_key", _text()),
    Column("body_digest", _text(128), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("currency", _text(8), nullable=False),
    Column("unsettled", BigInteger, nullable=False),  # 0: nothing keeps it from being blanked; see core.retention
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("next_check_at", BigInteger),
    Column("lease_owner", _text()),
    Column("lease_until", BigInteger, nullable=False),
    Column("commit_id", _text(64), nullable=False),
    Column("blanked_at", BigInteger),
    Column("document", _bytes(), nullable=False),
    Index("tulbur_sessions_key", "scope", "idempotency_key", unique=True),
    Index("tulbur_sessions_created", "created_at", "id"),
    Index("tulbur_sessions_status", "status", "created_at", "id"),
    Index("tulbur_sessions_user", "user_id", "created_at", "id"),
    Index("tulbur_sessions_exceptions", "exceptions", "created_at", "id"),
    Index("tulbur_sessions_due", "next_check_at", "id"),
    Index("tulbur_sessions_blank", "status", "blanked_at", "unsettled", "updated_at"),
)

invoices = Table(
    "tulbur_invoices",
    metadata,
    Column("session_id", _text(), primary_key=True),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),
    Column("provider", _text(16), nullable=False),
    Column("invoice_id", _text()),
    Column("sender_invoice_no", _text(), nullable=False),
    Column("state", _text(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Index("tulbur_invoices_id", "provider", "invoice_id", unique=True),
    Index("tulbur_invoices_sender", "sender_invoice_no", unique=True),
)

payments = Table(
    "tulbur_payments",
    metadata,
    Column("provider", _text(16), primary_key=True),
    Column("payment_id", _text(), primary_key=True),
    Column("session_id", _text()),  # null: unmatched, until a commit claims it
    Column("hinted_session_id", _text(), nullable=False),
    Column("invoice_id", _text(), nullable=False),
    Column("amount", BigInteger),  # null: a bare hint
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
    Column("raw", _long_text(), nullable=False),  # of unmatched ones only: a session's document has its own
    Column("tries", BigInteger, nullable=False, server_default=text("0")),  # looks so far, while unmatched
    Column("closed_at", BigInteger),  # somebody dealt with it, unmatched as it was
    Column("note", _long_text()),  # what they wrote down then
    Index("tulbur_payments_session", "session_id", "seen_at", "payment_id"),
    Index("tulbur_payments_refund_due", "refund_due", "currency"),
    _sparse(
        "tulbur_payments_open",
        "session_id",
        "closed_at",
        "seen_at",
        "payment_id",
        only="session_id IS NULL AND closed_at IS NULL",
    ),
    _sparse("tulbur_payments_looks", "due_at", "seen_at", "payment_id", only="due_at IS NOT NULL"),
    _sparse("tulbur_payments_held", "held", "seen_at", "payment_id", only="held > 0"),
)

orders = Table(
    "tulbur_orders",
    metadata,
    Column("id", _text(64), primary_key=True),
    Column("session_id", _text(), nullable=False),
    Column("shop_id", _text(), nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("discount", BigInteger, nullable=False),
    Column("shipping_amount", BigInteger, nullable=False),
    Column("currency", _text(8), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("items", _bytes(), nullable=False),
    Index("tulbur_orders_shop", "session_id", "shop_id", unique=True),
)

events = Table(
    "tulbur_events",
    metadata,
    Column("id", _text(64), primary_key=True),
    Column("session_id", _text(), nullable=False),
    Column("seq", BigInteger, nullable=False),  # the session's n-th event
    Column("type", _text(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),  # rows.EventState
    Column("no", BigInteger),
    Column("lease_owner", _text()),
    Column("lease_until", BigInteger, nullable=False),  # of a delivered event: when it was delivered
    Column("commit_id", _text(64), nullable=False),
    Column("data", _long_text(), nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),  # deliveries that failed
    Index("tulbur_events_session", "session_id", "seq", unique=True),
    Index("tulbur_events_no", "no", unique=True),
    Index("tulbur_events_outbox", "state", "no", "at"),
    Index("tulbur_events_commit", "commit_id"),
)

tokens = Table(
    "tulbur_tokens",
    metadata,
    Column("login", _text(), primary_key=True),
    Column("access_token", _long_text(), nullable=False),
    Column("refresh_token", _long_text(), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

leases = Table(
    "tulbur_leases",
    metadata,
    Column("name", _text(), primary_key=True),
    Column("owner", _text(), nullable=False),
    Column("until", BigInteger, nullable=False),
)

tallies = Table(
    "tulbur_tallies",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("name", _text(64), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

sweeps = Table(
    "tulbur_sweeps",
    metadata,
    Column("id", _text(64), primary_key=True),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("window_start", BigInteger, nullable=False),
    Column("window_end", BigInteger, nullable=False),
    Column("reason", _text(64), nullable=False),
    Column("complete", SmallInteger, nullable=False),  # 1: all of the window was seen
    Column("report", _long_text(), nullable=False),
    Index("tulbur_sweeps_started", "started_at", "id"),
    Index("tulbur_sweeps_complete", "complete", "window_end"),
)
