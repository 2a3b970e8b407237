"""The reading statements: plain functions of a connection, the same for three databases."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, desc, func, select

from tulbur.core.orders import Order
from tulbur.core.session import Event, Micros, Session
from tulbur.ports import NumberedEvent, SessionQuery, StoredToken, StoreStats
from tulbur.stores import rows, sweeps, worklist
from tulbur.stores.rows import page
from tulbur.stores.schema import events, invoices, orders, payments, sessions, tallies, tokens

_STORED: Final = (sessions.c.document, sessions.c.version)
_GET: Final = select(*_STORED).where(sessions.c.id == bindparam("key"))
_BY_INVOICE: Final = (
    select(*_STORED)
    .join(invoices, invoices.c.session_id == sessions.c.id)
    .where(invoices.c.provider == rows.PROVIDER, invoices.c.invoice_id == bindparam("key"))
)
_BY_SENDER: Final = (
    select(*_STORED)
    .join(invoices, invoices.c.session_id == sessions.c.id)
    .where(invoices.c.sender_invoice_no == bindparam("key"))
)
_BY_PAYMENT: Final = (
    select(*_STORED)
    .join(payments, payments.c.session_id == sessions.c.id)
    .where(payments.c.provider == rows.PROVIDER, payments.c.payment_id == bindparam("key"))
)


def get(connection: Connection, session_id: str) -> Session | None:
    return _one(connection, _GET, session_id)


def by_invoice(connection: Connection, invoice_id: str) -> Session | None:
    return _one(connection, _BY_INVOICE, invoice_id)


def by_sender(connection: Connection, sender_invoice_no: str) -> Session | None:
    return _one(connection, _BY_SENDER, sender_invoice_no)


def by_payment(connection: Connection, payment_id: str) -> Session | None:
    return _one(connection, _BY_PAYMENT, payment_id)


def _one(connection: Connection, query: Select[bytes, int], key: str) -> Session | None:
    row = connection.execute(query, {"key": key}).first()
    return _session(row) if row else None


def _session(row: Row[bytes, int]) -> Session:
    return rows.read_session(row.document, row.version)


def owner_of(connection: Connection, id_: str) -> str | None:
    """The session of an invoice number, or of an event."""
    for query in (
        select(invoices.c.session_id).where(invoices.c.sender_invoice_no == id_),
        select(events.c.session_id).where(events.c.id == id_),
    ):
        found = connection.execute(query).scalar()
        if found is not None:
            return str(found)
    return None


def order(connection: Connection, order_id: str) -> tuple[str, Order] | None:
    row = connection.execute(select(orders).where(orders.c.id == order_id)).mappings().first()
    return (row["session_id"], rows.read_order(row)) if row else None


def find(connection: Connection, query: SessionQuery) -> list[Session]:
    """The ids are found and ordered by an index alone; only a page of documents is read."""
    ids = _found(query).limit(page(query.limit)).subquery("found")
    documents = select(*_STORED).join(ids, ids.c.id == sessions.c.id).order_by(desc(ids.c.created_at), desc(ids.c.id))
    return [_session(row) for row in connection.execute(documents)]


def _found(query: SessionQuery) -> Select[str, int]:
    columns = sessions.c
    status: ColumnElement[str] = columns.status
    user_id: ColumnElement[str] = columns.user_id
    created_at: ColumnElement[int] = columns.created_at
    found = select(columns.id, columns.created_at)
    if query.exception is not None:
        named = columns.exceptions.like(f"%,{query.exception.value.replace('_', '!_')},%", escape="!")
        found = found.where(columns.exceptions > "", named)
        # Few sessions have exceptions, which a planner without statistics does not know: leave it no other index.
        status, user_id, created_at = status.concat(""), user_id.concat(""), created_at + 0
    if query.status is not None:
        found = found.where(status == query.status.value)
    if query.user_id is not None:
        found = found.where(user_id == query.user_id)
    if query.created_after is not None:
        found = found.where(created_at > query.created_after)
    if query.created_before is not None:
        found = found.where(created_at < query.created_before)
    if query.cursor is not None:
        at, id_ = query.cursor
        found = found.where(created_at <= at, (created_at < at) | (columns.id < id_))
    return found.order_by(desc(created_at), desc(columns.id))


def published(connection: Connection, after: int, limit: int) -> list[NumberedEvent]:
    query = select(events).where(events.c.no > after).order_by(events.c.no).limit(page(limit))
    return [rows.numbered(row) for row in connection.execute(query).mappings()]


def history(connection: Connection, session_id: str, limit: int) -> list[Event]:
    query = select(events).where(events.c.session_id == session_id).order_by(events.c.seq).limit(page(limit))
    return [rows.read_event(row) for row in connection.execute(query).mappings()]


def stats(connection: Connection, now: Micros) -> StoreStats:
    """Counts that indexes answer; no document is read."""
    hour = now // rows.HOUR - rows.TALLY_HOURS
    return rows.stats(
        statuses=_pairs(connection, select(sessions.c.status, func.count()).group_by(sessions.c.status)),
        exceptions=_pairs(
            connection,
            select(sessions.c.exceptions, func.count())
            .where(sessions.c.exceptions > "")
            .group_by(sessions.c.exceptions),
        ),
        refunds=_sums(connection, payments.c.refund_due),
        held=_sums(connection, payments.c.held),
        loads=[
            (name, int(count))
            for name, count in connection.execute(
                select(tallies.c.name, func.sum(tallies.c.count)).where(tallies.c.hour > hour).group_by(tallies.c.name)
            )
        ],
        created_24h=_count(
            connection, select(func.count()).select_from(sessions).where(sessions.c.created_at > now - rows.DAY)
        ),
        orders=_count(connection, select(func.count()).select_from(orders)),
        unmatched=_count(connection, select(func.count()).select_from(payments).where(*worklist.OPEN)),
        checks_due=_count(
            connection, select(func.count()).select_from(sessions).where(sessions.c.next_check_at <= now)
        ),
        events_undelivered=_count(
            connection, select(func.count()).select_from(events).where(events.c.state.in_(rows.UNDELIVERED))
        ),
        events_parked=_count(
            connection, select(func.count()).select_from(events).where(events.c.state == rows.EventState.PARKED)
        ),
        swept_until=sweeps.until(connection),
    )


def _sums(connection: Connection, part: ColumnElement[int]) -> list[tuple[str, int, int]]:
    """Of the few payments of which a part waits: by currency, how many and how much."""
    summed = select(payments.c.currency, func.count(), func.sum(part)).where(part > 0).group_by(payments.c.currency)
    return [(currency, count, int(amount)) for currency, count, amount in connection.execute(summed)]


def _count(connection: Connection, query: Select[int]) -> int:
    return connection.execute(query).scalar_one()


def _pairs(connection: Connection, query: Select[str, int]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in connection.execute(query)]


def token_get(connection: Connection, login: str) -> StoredToken | None:
    row = connection.execute(select(tokens).where(tokens.c.login == login)).first()
    return StoredToken(row.access_token, row.refresh_token, row.expires_at) if row else None
