"""Payments that wait for somebody: those without a session, looked at until they are closed, and the list of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, select

from tulbur.core.session import Micros
from tulbur.ports import MOST_ROWS, Disposition, ListedPayment, PaymentQuery, Unmatched
from tulbur.stores import rows
from tulbur.stores.dialects import insert_new, order_of
from tulbur.stores.rows import page
from tulbur.stores.schema import payments

OPEN: Final = (payments.c.session_id.is_(None), payments.c.closed_at.is_(None))
_NULLS: Final = (payments.c.session_id, payments.c.closed_at)
_PAGE: Final = (payments.c.seen_at, payments.c.payment_id)
_KEY: Final = (payments.c.provider == rows.PROVIDER, payments.c.payment_id == bindparam("of_payment"))
_UNMATCHED: Final = payments.update().where(*_KEY, payments.c.session_id.is_(None))
_WITHOUT_RAW: Final = tuple(column for column in payments.c if column.name != "raw")


def record_unmatched(connection: Connection, unmatched: Unmatched) -> bool:
    if insert_new(connection, payments, [rows.unmatched_row(unmatched)]):
        return True
    known = _locked(connection, unmatched.payment_id)
    if known is not None and known["session_id"] is None:
        _write(connection, rows.merged(rows.read_unmatched(known), unmatched))
    return False


def unmatched(connection: Connection, limit: int) -> list[Unmatched]:
    query = select(payments).where(*OPEN).order_by(*order_of(connection, _NULLS, *_PAGE)).limit(page(limit))
    query = _in_the_order_of_the_open(query)
    return [rows.read_unmatched(row) for row in connection.execute(query).mappings()]


def unmatched_payment(connection: Connection, payment_id: str) -> Unmatched | None:
    query = select(payments).where(*_KEY, payments.c.session_id.is_(None))
    row = connection.execute(query, {"of_payment": payment_id}).mappings().first()
    return rows.read_unmatched(row) if row else None


def unmatched_due(connection: Connection, now: Micros, limit: int) -> list[Unmatched]:
    """What has a due time is open, unless the release before has given one to what is closed: that is passed over here.

    Asked for in the statement, it would have a planner sort all that is due.
    """
    query = select(payments).where(payments.c.due_at <= now).order_by(payments.c.due_at, *_PAGE).limit(MOST_ROWS)
    due = [rows.read_unmatched(row) for row in connection.execute(query).mappings() if _is_open(row)]
    return due[: page(limit)]


def unmatched_looked(connection: Connection, unmatched: Unmatched, before_due_at: Micros | None) -> bool:
    known = _locked(connection, unmatched.payment_id)
    if known is None or not _is_open(known) or known["due_at"] != before_due_at:
        return False
    _write(connection, rows.looked(rows.read_unmatched(known), unmatched))
    return True


def close_unmatched(connection: Connection, payment_id: str, *, now: Micros, note: Mapping[str, str]) -> bool:
    """Close it; an earlier sending of this very call may have done so."""
    known, written = _locked(connection, payment_id), rows.written(note)
    if known is None or known["session_id"] is not None:
        return False
    if known["closed_at"] is not None:
        return rows.is_closed_so(known, now, written)
    closing = {"closed_at": now, "due_at": None, "note": written}
    connection.execute(_UNMATCHED, {**closing, "of_payment": payment_id})
    return True


def closed(connection: Connection, before: Micros, limit: int) -> list[str]:
    """Those that keep a raw answer, found among all without a session, of which there are few."""
    raw = payments.c.session_id.is_(None) & (payments.c.closed_at < before) & (payments.c.raw != "")
    query = select(payments.c.payment_id).where(raw).order_by(payments.c.seen_at, payments.c.payment_id)
    return list(connection.execute(query.limit(page(limit))).scalars())


def blank(connection: Connection, payment_ids: Sequence[str]) -> None:
    mine = payments.update().where(payments.c.provider == rows.PROVIDER, payments.c.payment_id.in_(payment_ids))
    over = mine.where(payments.c.session_id.is_(None), payments.c.closed_at.is_not(None))
    connection.execute(over.values(raw=""))


def _locked(connection: Connection, payment_id: str) -> RowMapping | None:
    return (
        connection.execute(select(payments).where(*_KEY).with_for_update(), {"of_payment": payment_id})
        .mappings()
        .first()
    )


def _is_open(row: rows.Columns) -> bool:
    return row["session_id"] is None and row["closed_at"] is None


def _write(connection: Connection, unmatched: Unmatched) -> None:
    connection.execute(_UNMATCHED, {**rows.unmatched_row(unmatched), "of_payment": unmatched.payment_id})


def listed(connection: Connection, query: PaymentQuery) -> list[ListedPayment]:
    """One page; what is held or due back is not much, and is put in order as a whole."""
    found = select(*_WITHOUT_RAW).where(*_waiting(query.disposition))
    if query.cursor is not None:
        at, id_ = query.cursor
        found = found.where(payments.c.seen_at >= at, (payments.c.seen_at > at) | (payments.c.payment_id > id_))
    unmatched = query.disposition is Disposition.UNMATCHED
    found = found.order_by(*order_of(connection, _NULLS if unmatched else (), *_PAGE)).limit(page(query.limit))
    if unmatched:
        found = _in_the_order_of_the_open(found)
    return [rows.read_payment(row) for row in connection.execute(found).mappings()]


def _in_the_order_of_the_open(query: Select[Any]) -> Select[Any]:
    """MariaDB and MySQL are told the index: their planner takes another by chance, and sorts all that is open."""
    for dialect in ("mysql", "mariadb"):
        query = query.with_hint(payments, "FORCE INDEX (tulbur_payments_open)", dialect)
    return query


def _waiting(disposition: Disposition) -> Sequence[ColumnElement[bool]]:
    if disposition is Disposition.UNMATCHED:
        return OPEN
    return (payments.c[disposition.value] > 0,)
