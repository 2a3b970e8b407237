"""The collections and their indexes; the unique ones hold what the tables' unique keys hold.

A key that not every document has is unique among those that have it: its index is partial. MongoDB compares text as
bytes by itself. Nothing here is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo import ASCENDING, IndexModel

from tulbur.stores.rows import EventState

SESSIONS: Final = "tulbur_sessions"
INVOICES: Final = "tulbur_invoices"
PAYMENTS: Final = "tulbur_payments"
ORDERS: Final = "tulbur_orders"
EVENTS: Final = "tulbur_events"
TOKENS: Final = "tulbur_tokens"
LEASES: Final = "tulbur_leases"
TALLIES: Final = "tulbur_tallies"
SWEEPS: Final = "tulbur_sweeps"

SCHEMA: Final = "tulbur_schema"
"""Holds the revision of the schema and the lock of whoever changes it."""

ANY_TEXT: Final[Mapping[str, Any]] = {"$gte": ""}
"""Matches every text and nothing else, in a form that the planner sees an equality in."""


def _index(name: str, *fields: str, unique: bool = False, only: Mapping[str, Any] | None = None) -> IndexModel:
    options: dict[str, Any] = {"name": name, "unique": unique}
    if only is not None:
        options["partialFilterExpression"] = only
    return IndexModel([(field, ASCENDING) for field in fields], **options)


FIRST: Final[Mapping[str, Sequence[IndexModel]]] = {
    SESSIONS: (
        _index("key", "scope", "idempotency_key", unique=True, only={"idempotency_key": ANY_TEXT}),
        _index("created", "created_at", "_id"),
        _index("status", "status", "created_at", "_id"),
        _index("user", "user_id", "created_at", "_id"),
        # `exceptions` is a list: one entry for each name, none for the many sessions without any.
        _index("exceptions", "exceptions", "created_at", "_id", only={"exceptions": {"$gt": ""}}),
        _index("due", "next_check_at", "_id"),
        _index("blank", "status", "blanked_at", "unsettled", "updated_at"),
    ),
    INVOICES: (
        _index("id", "provider", "invoice_id", unique=True, only={"invoice_id": ANY_TEXT}),
        _index("sender", "sender_invoice_no", unique=True),
    ),
    PAYMENTS: (
        _index("session", "session_id", "seen_at", "payment_id"),
        _index("refund_due", "refund_due", "currency", only={"refund_due": {"$gt": 0}}),
    ),
    ORDERS: (_index("shop", "session_id", "shop_id", unique=True),),
    EVENTS: (
        _index("session", "session_id", "seq", unique=True),
        _index("no", "no", unique=True, only={"no": {"$gt": 0}}),
        _index("unnumbered", "at", "_id", only={"state": int(EventState.UNNUMBERED)}),
        _index("undelivered", "state", "no", only={"state": int(EventState.NUMBERED)}),
        _index("commit", "commit_id"),
    ),
    TOKENS: (),
    LEASES: (),
    TALLIES: (_index("hour", "hour"),),
}

# Each over the few documents it is for; the lists of work come in their order.
SECOND: Final[Mapping[str, Sequence[IndexModel]]] = {
    PAYMENTS: (
        _index(
            "open", "session_id", "closed_at", "seen_at", "payment_id", only={"session_id": None, "closed_at": None}
        ),
        _index("looks", "due_at", "seen_at", "payment_id", only={"due_at": {"$gt": 0}}),
        _index("held", "seen_at", "payment_id", "held", only={"held": {"$gt": 0}}),
        _index("due_back", "seen_at", "payment_id", "refund_due", only={"refund_due": {"$gt": 0}}),
    ),
    EVENTS: (_index("parked", "no", "state", only={"state": int(EventState.PARKED)}),),
    SWEEPS: (
        _index("started", "started_at", "_id"),
        _index("complete", "complete", "window_end"),
    ),
}

INDEXES: Final[Mapping[str, Sequence[IndexModel]]] = {
    name: (*FIRST.get(name, ()), *SECOND.get(name, ())) for name in (*FIRST, *SECOND)
}
"""Every collection of ours but `SCHEMA`, and all its indexes."""
