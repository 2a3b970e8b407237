"""Every statement that runs often is answered by an index: as SQLite itself plans it, on a few thousand sessions."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sqlalchemy import Connection, event

from tulbur.core.session import ExceptionName, Status
from tulbur.errors import SessionExists
from tulbur.ports import Disposition, PaymentQuery, SessionQuery, SweepRun, Unmatched
from tulbur.stores import migrate, outbox, reads, sweeps, worklist, writes
from tulbur.stores.contracts.samples import NOW, answered, called_back, session, with_qr
from tulbur.stores.rows import Change
from tulbur.stores.sqlite_file import connect

SESSIONS = 3000
LATER = NOW + 10**12


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        migrate.up(path)
        with closing(connect(path, 1)) as opened:
            opened.exec_driver_sql("PRAGMA synchronous=OFF")
            opened.exec_driver_sql("BEGIN IMMEDIATE")
            for n in range(SESSIONS):
                _fill(opened, n)
            opened.exec_driver_sql("COMMIT")
            yield opened


def _fill(connection: Connection, n: int) -> None:
    new = session(f"s-{n}", now=NOW + n, user_id=f"u-{n % 50}", scope="a", idempotency_key=f"k-{n}")
    writes.add(connection, Change(None, new, f"c-{n}-0"))
    before = new.committed()
    steps = (
        lambda s: with_qr(s, now=NOW + n),
        lambda s: answered(s, f"pay-{n}", *([f"more-{n}"] if n % 100 == 1 else []), now=NOW + n),
        lambda s: called_back(s, now=NOW + n),
    )
    for step in steps[: n % 4]:
        after = step(before)
        writes.commit(connection, Change(before, after, f"c-{n}-{before.version}"))
        before = after.committed()
    if n % 50 == 0:
        worklist.record_unmatched(connection, Unmatched(payment_id=f"lone-{n}", seen_at=NOW + n, due_at=NOW))
        run = SweepRun(
            id=f"sweep-{n}", started_at=NOW + n, start=NOW, end=NOW + n, reason="daily", complete=n % 100 == 0
        )
        sweeps.put(connection, run)


def plans(connection: Connection, work: Callable[[Connection], object]) -> list[str]:
    """What SQLite says it does for each statement of `work`, which is undone afterwards."""
    statements: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    connection.exec_driver_sql("BEGIN IMMEDIATE")
    event.listen(connection, "before_cursor_execute", note)
    try:
        work(connection)
    except SessionExists:
        pass
    finally:
        event.remove(connection, "before_cursor_execute", note)
        connection.exec_driver_sql("ROLLBACK")
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    lines = []
    for statement, parameters in statements:
        if not statement.startswith(("SAVEPOINT", "RELEASE")):
            given = parameters[0] if isinstance(parameters, list) else parameters
            lines += [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", given)]
    return lines


FIND = SessionQuery()
LONE = Unmatched(payment_id="lone-0", seen_at=NOW, due_at=NOW)
RECENTLY = NOW + 2900

# What is run, and the indexes it must use.
WORK: dict[str, tuple[Callable[[Connection], object], set[str]]] = {
    "get": (lambda c: reads.get(c, "s-1"), {"sqlite_autoindex_tulbur_sessions_1"}),
    "by_invoice": (lambda c: reads.by_invoice(c, "inv-s-2"), {"tulbur_invoices_id"}),
    "by_sender": (lambda c: reads.by_sender(c, "TB-s-2"), {"tulbur_invoices_sender"}),
    "by_payment": (lambda c: reads.by_payment(c, "pay-2"), {"sqlite_autoindex_tulbur_payments_1"}),
    "history": (lambda c: reads.history(c, "s-3", 200), {"tulbur_events_session"}),
    "deliveries": (lambda c: outbox.deliveries(c, "s-3", 200), {"tulbur_events_session"}),
    "unmatched": (lambda c: worklist.unmatched(c, 200), {"tulbur_payments_open"}),
    "unmatched_payment": (lambda c: worklist.unmatched_payment(c, "lone-0"), {"sqlite_autoindex_tulbur_payments_1"}),
    "unmatched_due": (lambda c: worklist.unmatched_due(c, LATER, 50), {"tulbur_payments_looks"}),
    "unmatched_looked": (
        lambda c: worklist.unmatched_looked(c, replace(LONE, due_at=LATER), LONE.due_at),
        {"sqlite_autoindex_tulbur_payments_1"},
    ),
    "close_unmatched": (
        lambda c: worklist.close_unmatched(c, LONE.payment_id, now=LATER, note={}),
        {"sqlite_autoindex_tulbur_payments_1"},
    ),
    "payments unmatched": (
        lambda c: worklist.listed(c, PaymentQuery(disposition=Disposition.UNMATCHED, cursor=(NOW + 500, "pay"))),
        {"tulbur_payments_open"},
    ),
    "payments held": (
        lambda c: worklist.listed(c, PaymentQuery(disposition=Disposition.HELD, cursor=(NOW + 500, "pay"))),
        {"tulbur_payments_held"},
    ),
    "payments due back": (
        lambda c: worklist.listed(c, PaymentQuery(disposition=Disposition.REFUND_DUE)),
        {"tulbur_payments_refund_due"},
    ),
    "events_failed": (
        lambda c: outbox.events_failed(c, "w", ["e-1-1", "e-2-2"], retry_at=None),
        {"sqlite_autoindex_tulbur_events_1"},
    ),
    "parked": (lambda c: outbox.parked(c, 3, 50), {"tulbur_events_outbox"}),
    "replay": (
        lambda c: (
            outbox.publish(c, 50, deliver=False),
            outbox.replay(c, 0, since=NOW, before=LATER, limit=50, parked_only=False),
        ),
        {"tulbur_events_no", "sqlite_autoindex_tulbur_events_1"},
    ),
    "replay the recent": (
        lambda c: outbox.replay(c, 0, since=RECENTLY, before=LATER, limit=50, parked_only=False),
        {"tulbur_events_no"},
    ),
    "replay what is parked": (
        lambda c: outbox.replay(c, 0, since=RECENTLY, before=LATER, limit=50, parked_only=True),
        {"tulbur_events_outbox"},
    ),
    "sweeps": (lambda c: sweeps.listed(c, 50, (NOW + 5000, "sweep-5000")), {"tulbur_sweeps_started"}),
    "swept_until": (sweeps.until, {"tulbur_sweeps_complete"}),
    "blankable": (
        lambda c: writes.blankable(c, {Status.PAID: LATER, Status.EXPIRED: LATER}, 50),
        {"tulbur_sessions_blank", "tulbur_events_session"},
    ),
    "late_invoices": (
        lambda c: writes.late_invoices(c, LATER, 50),
        {"tulbur_sessions_blank", "tulbur_events_session"},
    ),
    "find": (lambda c: reads.find(c, FIND), {"tulbur_sessions_created"}),
    "find the next page": (
        lambda c: reads.find(c, replace(FIND, cursor=(NOW + 500, "s-500"))),
        {"tulbur_sessions_created"},
    ),
    "find by status": (
        lambda c: reads.find(c, replace(FIND, status=Status.PAID, created_after=NOW)),
        {"tulbur_sessions_status"},
    ),
    "find by user": (
        lambda c: reads.find(c, replace(FIND, user_id="u-7", cursor=(NOW + 500, "s-500"))),
        {"tulbur_sessions_user"},
    ),
    "find by exception and all else": (
        lambda c: reads.find(
            c, replace(FIND, exception=ExceptionName.LATE, status=Status.PAID, user_id="u-1", cursor=(NOW, "s"))
        ),
        {"tulbur_sessions_exceptions"},
    ),
    "find by exception": (
        lambda c: reads.find(c, replace(FIND, exception=ExceptionName.PAID_TWICE)),
        {"tulbur_sessions_exceptions"},
    ),
    "claim_due": (
        lambda c: writes.claim_due(c, now=LATER, clock=NOW, owner="w", limit=50, lease_seconds=30),
        {"tulbur_sessions_due", "sqlite_autoindex_tulbur_sessions_1"},
    ),
    "publish": (
        lambda c: outbox.publish(c, 50),
        {"tulbur_events_outbox", "tulbur_events_session", "tulbur_events_no"},
    ),
    "claim_events": (
        lambda c: (
            outbox.publish(c, 200),
            outbox.claim_events(c, clock=NOW, owner="w", limit=50, lease_seconds=30),
        ),
        {"tulbur_events_outbox", "tulbur_events_session"},
    ),
    "events": (lambda c: reads.published(c, 3, 50), {"tulbur_events_no"}),
    "blank": (
        lambda c: writes.blank(c, {Status.PAID: LATER, Status.EXPIRED: NOW}, now=LATER, limit=50, commit_id="x"),
        {"tulbur_sessions_blank", "tulbur_events_session"},
    ),
    "stats": (
        lambda c: reads.stats(c, NOW),
        {
            "tulbur_sessions_exceptions",
            "tulbur_sessions_created",
            "tulbur_sessions_due",
            "tulbur_payments_open",
            "tulbur_payments_refund_due",
            "tulbur_payments_held",
            "tulbur_sweeps_complete",
            "tulbur_events_outbox",
        },
    ),
    "a key that is taken": (
        lambda c: writes.add(c, Change(None, session("x", scope="a", idempotency_key="k-9"), "x")),
        {"tulbur_sessions_key"},
    ),
    "a race that is lost": (
        lambda c: writes.commit(c, Change(session("s-1").committed(), called_back(session("s-1").committed()), "x")),
        {"tulbur_events_commit"},
    ),
}


@pytest.mark.parametrize("name", WORK)
def test_indexes_answer(connection: Connection, name: str) -> None:
    work, indexes = WORK[name]
    lines = plans(connection, work)
    text = "\n".join(lines)
    assert [index for index in indexes if index not in text] == [], text
    scans = [line for line in lines if line.startswith("SCAN tulbur_") and "INDEX" not in line]
    assert scans == []


ORDERED = [
    "find", "find the next page", "find by status", "find by user", "claim_due", "unmatched", "blank", "publish",
    "unmatched_due", "payments unmatched", "parked", "replay the recent", "sweeps", "late_invoices",
]  # fmt: skip


@pytest.mark.parametrize("name", ORDERED)
def test_the_index_orders_the_page(connection: Connection, name: str) -> None:
    lines = plans(connection, WORK[name][0])
    if "SCAN found" in lines:  # what follows orders the documents of one page
        lines = lines[: lines.index("SCAN found")]
    assert "USE TEMP B-TREE FOR ORDER BY" not in lines, "\n".join(lines)
