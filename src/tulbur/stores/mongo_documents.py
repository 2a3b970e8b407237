"""Rows as MongoDB's documents and back: every number is an int64, a key of several columns is one `_id`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from bson.int64 import Int64

from tulbur.core.orders import Order
from tulbur.core.session import Invoice, Payment, Session
from tulbur.ports import NumberedEvent, SweepRun, Unmatched
from tulbur.stores import rows
from tulbur.stores.rows import Change

Document: TypeAlias = dict[str, Any]


def stored(row: Mapping[str, Any]) -> Document:
    return {name: Int64(value) if isinstance(value, int) else value for name, value in row.items()}


def plain(document: Mapping[str, Any]) -> Document:
    """The row that was stored; its `_id` also as `id`."""
    row = {name: int(value) if isinstance(value, Int64) else value for name, value in document.items()}
    return {"id": row.get("_id"), **row}


def session_document(change: Change) -> Document:
    row = rows.session_row(change)
    row["exceptions"] = sorted(name.value for name in change.after.exceptions)
    return _keyed(row.pop("id"), row)


def invoice_id(session_id: str, number: int) -> Document:
    return {"session_id": session_id, "number": Int64(number)}


def invoice_document(session_id: str, attempt: Invoice) -> Document:
    return _keyed(invoice_id(session_id, attempt.number), rows.invoice_row(session_id, attempt))


def payment_id(id_: str) -> Document:
    return {"provider": rows.PROVIDER, "payment_id": id_}


def payment_document(session_id: str, payment: Payment) -> Document:
    return _keyed(payment_id(payment.id), rows.payment_row(session_id, payment))


def unmatched_document(unmatched: Unmatched) -> Document:
    return _keyed(payment_id(unmatched.payment_id), rows.unmatched_row(unmatched))


def sweep_document(run: SweepRun) -> Document:
    row = rows.sweep_row(run)
    return _keyed(row.pop("id"), row)


def order_document(session_id: str, order: Order) -> Document:
    row = rows.order_row(session_id, order)
    return _keyed(row.pop("id"), row)


def event_documents(change: Change) -> list[Document]:
    return [_keyed(row.pop("id"), row) for row in rows.event_rows(change)]


def read_session(document: Mapping[str, Any]) -> Session:
    return rows.read_session(document["document"], int(document["version"]))


def numbered(document: Mapping[str, Any]) -> NumberedEvent:
    return rows.numbered(plain(document))


def _keyed(id_: str | Document, row: Mapping[str, Any]) -> Document:
    return {"_id": id_, **stored(row)}
