"""The writing statements: plain functions of a connection with a transaction under way, the same for three databases.

The unique keys decide, never a read that a write relies on. Whoever calls these rolls back when they raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, exists, func, not_, select
from sqlalchemy.exc import IntegrityError

from tulbur.core.retention import blanked
from tulbur.core.session import Micros, Session, Status
from tulbur.errors import Conflict, SessionExists, StoreUnavailable
from tulbur.ports import UNTOLD, CommitResult, Committed, Leave, PaymentTaken, StoredToken
from tulbur.stores import rows
from tulbur.stores.dialects import insert_new, order_of
from tulbur.stores.rows import Change, page
from tulbur.stores.schema import events, invoices, leases, orders, payments, sessions, tallies, tokens

_COMMIT: Final = sessions.update().where(
    sessions.c.id == bindparam("of_id"), sessions.c.version == bindparam("of_version")
)
_INVOICE: Final = invoices.update().where(
    invoices.c.session_id == bindparam("of_session"), invoices.c.number == bindparam("of_number")
)
_PAYMENT: Final = payments.update().where(
    payments.c.provider == rows.PROVIDER,
    payments.c.payment_id == bindparam("of_payment"),
    (payments.c.session_id == bindparam("of_session")) | payments.c.session_id.is_(None),
)
_ASSIGNED: Final = payments.update().where(
    payments.c.provider == rows.PROVIDER,
    payments.c.payment_id == bindparam("of_payment"),
    payments.c.session_id.is_(None),
    payments.c.closed_at.is_(None),
)
_MINE: Final = (
    select(events.c.id)
    .where(events.c.commit_id == bindparam("commit"), events.c.session_id == bindparam("session"))
    .limit(1)
)


class PaymentsTaken(Exception):
    """Roll back: these payments belong to other sessions."""

    def __init__(self, ids: frozenset[str]) -> None:
        super().__init__("payments of another session")
        self.result = PaymentTaken(ids)


def add(connection: Connection, change: Change) -> None:
    """Insert a new session; it may be there already by an earlier sending of this very change."""
    session = change.after
    if insert_new(connection, sessions, [rows.session_row(change)]):
        try:
            _write_rows(connection, change)
        except PaymentsTaken as taken:
            raise Conflict("a payment of this session belongs to another one") from taken
        return
    holder = _holder(connection, session)
    if holder != session.id or not _is_mine(connection, change):
        raise SessionExists(holder)


def _holder(connection: Connection, session: Session) -> str:
    own = select(sessions.c.id).where(sessions.c.id == session.id)
    by_key = select(sessions.c.id).where(
        sessions.c.scope == session.scope, sessions.c.idempotency_key == session.idempotency_key
    )
    return str(connection.execute(own).scalar() or connection.execute(by_key).scalar_one())


def commit(connection: Connection, change: Change) -> Committed:
    """Compare-and-set one session and write its rows; PaymentsTaken and Conflict ask for a rollback."""
    values = {name: value for name, value in rows.session_row(change).items() if name not in rows.FIXED}
    values |= {"of_id": change.after.id, "of_version": change.version - 1}
    if connection.execute(_COMMIT, values).rowcount == 0:
        return Committed.WON if _is_mine(connection, change) else Committed.LOST
    _write_rows(connection, change)
    return Committed.WON


def _is_mine(connection: Connection, change: Change) -> bool:
    """Whether an earlier sending of this change was committed: events are never deleted, so they know."""
    keys = {"commit": change.commit_id, "session": change.after.id}
    return connection.execute(_MINE, keys).first() is not None


def commit_all(connection: Connection, changes: Sequence[Change]) -> list[CommitResult | Conflict]:
    """Every change, or an exception: a lost race changes nothing, anything worse asks for `commit_each`."""
    return [commit(connection, change) for change in changes]


def commit_each(connection: Connection, changes: Sequence[Change]) -> list[CommitResult | Conflict]:
    """Every change in a savepoint of its own, so that a bad one is undone alone."""
    return [_commit_alone(connection, change) for change in changes]


def _commit_alone(connection: Connection, change: Change) -> CommitResult | Conflict:
    try:
        with connection.begin_nested():
            return commit(connection, change)
    except PaymentsTaken as taken:
        return taken.result
    except Conflict as refused:
        return refused


def _write_rows(connection: Connection, change: Change) -> None:
    try:
        _write_invoices(connection, change)
    except IntegrityError:
        raise Conflict(rows.INVOICE_TAKEN) from None
    _write_payments(connection, change)
    made = [rows.order_row(change.after.id, order) for order in change.orders]
    if made and insert_new(connection, orders, made) < len(made):
        raise Conflict(rows.ORDERED_ALREADY)
    told = rows.event_rows(change)
    if insert_new(connection, events, told) < len(told):
        raise Conflict(rows.TOLD_ALREADY)


def _write_invoices(connection: Connection, change: Change) -> None:
    session_id = change.after.id
    for attempt in change.attempts:
        row = rows.invoice_row(session_id, attempt)
        if insert_new(connection, invoices, [row]):
            continue
        keys = {"of_session": session_id, "of_number": attempt.number}
        if connection.execute(_INVOICE, {**row, **keys}).rowcount == 0:
            raise Conflict(rows.INVOICE_TAKEN)


def _write_payments(connection: Connection, change: Change) -> None:
    session_id = change.after.id
    taken = set()
    for payment in change.payments:
        row = rows.payment_row(session_id, payment)
        if insert_new(connection, payments, [row]):
            continue
        keys = {"of_session": session_id, "of_payment": payment.id}
        claim = _ASSIGNED if payment.id in change.assigned else _PAYMENT
        if connection.execute(claim, {**row, **keys}).rowcount == 0:
            taken.add(payment.id)
    if taken:
        raise PaymentsTaken(frozenset(taken))


def claim_due(
    connection: Connection, *, now: Micros, clock: Micros, owner: str, limit: int, lease_seconds: float
) -> list[Session]:
    due = (
        select(sessions.c.id, sessions.c.document, sessions.c.version)
        .where(sessions.c.next_check_at <= now, sessions.c.lease_until <= clock)
        .order_by(sessions.c.next_check_at, sessions.c.id)
        .limit(page(limit))
        .with_for_update()
    )
    found = connection.execute(due).all()
    if found:
        taking = sessions.update().where(sessions.c.id.in_([row.id for row in found]))
        until = rows.lease_end(clock, lease_seconds)
        connection.execute(taking.values(lease_owner=owner, lease_until=until))
    return list(_readable(found))


def _readable(found: Sequence[Row[*tuple[Any, ...]]]) -> Iterator[Session]:
    for row in found:
        # One that cannot be read must not keep the others from their work; whoever asks for it by its id is told.
        with suppress(StoreUnavailable):
            yield rows.read_session(row.document, row.version)


def blank(
    connection: Connection,
    cutoffs: Mapping[Status, Micros],
    *,
    now: Micros,
    limit: int,
    commit_id: str,
    leave: Leave = UNTOLD,
) -> int:
    """Blank finished sessions status by status, those untouched for the longest time first."""
    done = 0
    for status, before in cutoffs.items():
        query = _finished(connection, status, before, leave).limit(page(limit) - done).with_for_update()
        for session in _readable(connection.execute(query).all()):
            after = blanked(session, now)
            if after is session:
                mine = (sessions.c.id == session.id) & (sessions.c.version == session.version)
                connection.execute(sessions.update().where(mine).values(unsettled=rows.kept_back(session)))
            elif not rows.is_left(session, leave):
                done += commit(connection, Change(session, after, commit_id)) is Committed.WON
    return done


def blankable(connection: Connection, cutoffs: Mapping[Status, Micros], limit: int, leave: Leave = UNTOLD) -> int:
    """How many `blank` would find, counted no further than asked for."""
    count = 0
    for status, before in cutoffs.items():
        some = _finished(connection, status, before, leave).limit(rows.counted(limit) - count).subquery("some")
        count += connection.execute(select(func.count()).select_from(some)).scalar_one()
    return count


def unreadable(
    connection: Connection, cutoffs: Mapping[Status, Micros], limit: int, leave: Leave = UNTOLD
) -> list[str]:
    """Ids of those among the next ones whose document cannot be read."""
    lost: list[str] = []
    for status, before in cutoffs.items():
        found = connection.execute(_finished(connection, status, before, leave).limit(page(limit))).all()
        readable = {session.id for session in _readable(found)}
        lost += [row.id for row in found if row.id not in readable]
    return lost


def late_invoices(connection: Connection, late_before: Micros, limit: int, leave: Leave = UNTOLD) -> list[Session]:
    """Open invoices among those that `blank` takes next: their documents tell, and an invoice need not be searched."""
    found: list[Session] = []
    for status in rows.LATE:
        query = _finished(connection, status, late_before, leave).limit(page(limit))
        found += _readable(connection.execute(query).all())
    return [session for session in found if rows.has_open_invoice(session)]


def _finished(connection: Connection, status: Status, before: Micros, leave: Leave) -> Select[str, bytes, int]:
    untold = exists().where(events.c.session_id == sessions.c.id, (events.c.state + 0).in_(rows.UNTOLD))
    left = [*([not_(untold)] if leave.untold else []), *([sessions.c.id.not_in(leave.ids)] if leave.ids else [])]
    return (
        select(sessions.c.id, sessions.c.document, sessions.c.version)
        .where(
            sessions.c.status == status.value,
            sessions.c.blanked_at.is_(None),
            sessions.c.unsettled == 0,
            sessions.c.updated_at < before,
            sessions.c.next_check_at.is_(None),
            *left,
        )
        .order_by(*order_of(connection, [sessions.c.blanked_at], sessions.c.updated_at))
    )


def tally(connection: Connection, now: Micros, loads: Mapping[str, int]) -> None:
    hour = now // rows.HOUR
    connection.execute(tallies.delete().where(tallies.c.hour < hour - rows.TALLIES_KEPT_HOURS))
    for name, count in sorted(loads.items()):
        insert_new(connection, tallies, [{"hour": hour, "name": name, "count": 0}])
        mine = tallies.update().where(tallies.c.hour == hour, tallies.c.name == name)
        connection.execute(mine.values(count=tallies.c.count + count))


def lease(connection: Connection, *, name: str, owner: str, clock: Micros, seconds: float) -> bool:
    insert_new(connection, leases, [{"name": name, "owner": owner, "until": 0}])
    free = leases.update().where(leases.c.name == name, (leases.c.owner == owner) | (leases.c.until <= clock))
    taken = connection.execute(free.values(owner=owner, until=rows.lease_end(clock, seconds)))
    return taken.rowcount == 1


def token_put(connection: Connection, login: str, token: StoredToken) -> None:
    values = {
        "access_token": token.access_token,
        "refresh_token": token.refresh_token,
        "expires_at": token.expires_at,
    }
    if not insert_new(connection, tokens, [{"login": login, **values}]):
        connection.execute(tokens.update().where(tokens.c.login == login).values(**values))
