"""With two hundred thousand sessions stored, what runs often touches few rows, found by the index meant for it."""

import fcntl
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import Connection, event
from tests.stores import many
from tests.stores.servers import SERVERS

from testbed.plugin import TestServers
from tulbur.core.session import ExceptionName, Status
from tulbur.errors import SessionExists
from tulbur.ports import Disposition, PaymentQuery, SessionQuery, Unmatched
from tulbur.stores import migrate, outbox, reads, sweeps, worklist, writes
from tulbur.stores.contracts.samples import NOW, called_back, session
from tulbur.stores.places import place
from tulbur.stores.rows import Change

END = NOW + many.SESSIONS * 1_000_000
LATER = END + 10**12
RECENTLY = END - 1000 * 1_000_000
FIND = SessionQuery()
LONE = Unmatched(payment_id="pay-20", seen_at=NOW, due_at=NOW + 20)

MOST_ROWS_TOUCHED = 2500
"""For a page of 50, whatever is stored."""


@dataclass
class Examined:
    """What the database did for the statements of one call."""

    indexes: set[str] = field(default_factory=set)
    scanned: set[str] = field(default_factory=set)
    touched: float = 0
    told: list[str] = field(default_factory=list)


def statements(connection: Connection, work: Callable[[Connection], object]) -> list[tuple[str, Any]]:
    """The statements of `work`, which is undone."""
    made: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _x: object, many_: bool) -> None:
        made.append((statement, parameters[0] if many_ else parameters))

    connection.exec_driver_sql("BEGIN")
    event.listen(connection, "before_cursor_execute", note)
    try:
        work(connection)
    except SessionExists:
        pass
    finally:
        event.remove(connection, "before_cursor_execute", note)
        connection.exec_driver_sql("ROLLBACK")
    return [one for one in made if one[0].startswith(("SELECT", "UPDATE"))]


def examined(connection: Connection, work: Callable[[Connection], object]) -> Examined:
    made = statements(connection, work)
    examine = _on_postgresql if connection.dialect.name == "postgresql" else _on_mariadb
    found = Examined()
    for statement, parameters in made:
        examine(connection, statement, parameters, found)
    if connection.dialect.name == "mariadb":
        found.touched = _reads_of(connection, work)
    return found


def _on_postgresql(connection: Connection, statement: str, parameters: Any, found: Examined) -> None:
    connection.exec_driver_sql("BEGIN")
    plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
    connection.exec_driver_sql("ROLLBACK")
    plan = json.loads(plan) if isinstance(plan, str) else plan

    def look(node: Any) -> None:
        rows = f"{node['Actual Rows']} rows, {node['Actual Loops']} times"
        found.told.append(f"{node['Node Type']} {node.get('Index Name', node.get('Relation Name', ''))}: {rows}")
        if "Index Name" in node:
            found.indexes.add(node["Index Name"])
        if node["Node Type"] == "Seq Scan":
            found.scanned.add(node["Relation Name"])
        if "Scan" in node["Node Type"]:
            found.touched += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for below in node.get("Plans", ()):
            look(below)

    look(plan[0]["Plan"])


def _on_mariadb(connection: Connection, statement: str, parameters: Any, found: Examined) -> None:
    for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings():
        found.told.append(str(dict(row)))
        for key in (row["key"] or "").split("|"):
            found.indexes.add(f"{row['table']}.PRIMARY" if key == "PRIMARY" else key)
        if row["type"] == "ALL" and str(row["table"]).startswith("tulbur_"):
            found.scanned.add(row["table"])


def _reads_of(connection: Connection, work: Callable[[Connection], object]) -> int:
    """Rows that the storage engine has read for `work`."""

    def read() -> int:
        status = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'")
        return sum(int(value) for name, value in status if not re.search("deleted|retry", name))

    connection.exec_driver_sql("BEGIN")
    before = read()
    try:
        work(connection)
    except SessionExists:
        pass
    finally:
        after = read()
        connection.exec_driver_sql("ROLLBACK")
    return after - before


# What is run, and the indexes it must use.
WORK: dict[str, tuple[Callable[[Connection], object], set[str]]] = {
    "get": (lambda c: reads.get(c, "s-1"), {"tulbur_sessions.PRIMARY"}),
    "by_invoice": (lambda c: reads.by_invoice(c, "inv-s-2"), {"tulbur_invoices_id", "tulbur_sessions.PRIMARY"}),
    "by_sender": (lambda c: reads.by_sender(c, "TB-s-2"), {"tulbur_invoices_sender", "tulbur_sessions.PRIMARY"}),
    "by_payment": (lambda c: reads.by_payment(c, "pay-2"), {"tulbur_payments.PRIMARY", "tulbur_sessions.PRIMARY"}),
    "order": (lambda c: reads.order(c, "o-1"), {"tulbur_orders.PRIMARY"}),
    "owner of an invoice number": (lambda c: reads.owner_of(c, "TB-s-1"), {"tulbur_invoices_sender"}),
    "owner of an event": (lambda c: reads.owner_of(c, "e-3-1"), {"tulbur_events.PRIMARY"}),
    "history": (lambda c: reads.history(c, "s-3", 200), {"tulbur_events_session"}),
    "deliveries": (lambda c: outbox.deliveries(c, "s-3", 200), {"tulbur_events_session"}),
    "unmatched": (lambda c: worklist.unmatched(c, 50), {"tulbur_payments_open"}),
    "unmatched_payment": (lambda c: worklist.unmatched_payment(c, "pay-20"), {"tulbur_payments.PRIMARY"}),
    "unmatched_due": (lambda c: worklist.unmatched_due(c, LATER, 50), {"tulbur_payments_looks"}),
    "unmatched_looked": (
        lambda c: worklist.unmatched_looked(c, replace(LONE, due_at=LATER), LONE.due_at),
        {"tulbur_payments.PRIMARY"},
    ),
    "close_unmatched": (
        lambda c: worklist.close_unmatched(c, LONE.payment_id, now=LATER, note={}),
        {"tulbur_payments.PRIMARY"},
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
        {"tulbur_events.PRIMARY"},
    ),
    "parked": (lambda c: outbox.parked(c, 3, 50), {"tulbur_events_outbox"}),
    "replay": (
        lambda c: outbox.replay(c, 0, since=NOW, before=LATER, limit=50, parked_only=False),
        {"tulbur_events_no", "tulbur_events.PRIMARY"},
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
        lambda c: reads.find(c, replace(FIND, cursor=(NOW + 50_000 * 1_000_000, "s-50000"))),
        {"tulbur_sessions_created"},
    ),
    "find what is new": (lambda c: reads.find(c, replace(FIND, created_after=RECENTLY)), {"tulbur_sessions_created"}),
    "find what is of one time": (
        lambda c: reads.find(c, replace(FIND, created_after=NOW, created_before=NOW + 100 * 1_000_000)),
        {"tulbur_sessions_created"},
    ),
    "find by status": (
        lambda c: reads.find(c, replace(FIND, status=Status.CANCELLED, created_after=NOW)),
        {"tulbur_sessions_status"},
    ),
    "find by user": (
        lambda c: reads.find(c, replace(FIND, user_id="u-7", cursor=(NOW + 50_000 * 1_000_000, "s-50000"))),
        {"tulbur_sessions_user"},
    ),
    "find by exception": (
        lambda c: reads.find(c, replace(FIND, exception=ExceptionName.LATE)),
        {"tulbur_sessions_exceptions"},
    ),
    "find by exception and all else": (
        lambda c: reads.find(
            c, replace(FIND, exception=ExceptionName.LATE, status=Status.PAID, user_id="u-1", cursor=(LATER, "s"))
        ),
        {"tulbur_sessions_exceptions"},
    ),
    "claim_due": (
        lambda c: writes.claim_due(c, now=LATER, clock=NOW, owner="w", limit=50, lease_seconds=30),
        {"tulbur_sessions_due", "tulbur_sessions.PRIMARY"},
    ),
    "publish": (lambda c: outbox.publish(c, 50), {"tulbur_events_outbox", "tulbur_events_session"}),
    "claim_events": (
        lambda c: outbox.claim_events(c, clock=NOW, owner="w", limit=50, lease_seconds=30),
        {"tulbur_events_outbox", "tulbur_events_session"},
    ),
    "events_done": (lambda c: outbox.events_done(c, NOW, "w", ["e-1-1", "e-2-2"]), {"tulbur_events.PRIMARY"}),
    "events": (lambda c: reads.published(c, 3, 50), {"tulbur_events_no"}),
    "blank": (
        lambda c: writes.blank(c, {Status.PAID: LATER, Status.EXPIRED: NOW}, now=LATER, limit=50, commit_id="x"),
        {"tulbur_sessions_blank", "tulbur_events_session"},
    ),
    "a key that is taken": (
        lambda c: writes.add(c, Change(None, session("x", scope="a", idempotency_key="k-9"), "x")),
        {"tulbur_sessions_key"},
    ),
    "a race that is lost": (
        lambda c: writes.commit(c, Change(session("s-1").committed(), called_back(session("s-1").committed()), "x")),
        {"tulbur_events_commit", "tulbur_sessions.PRIMARY"},
    ),
}


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest, servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One full database for all processes of the test run: whoever comes first fills it."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (folder / f"many-{request.param}").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        url = file.read()
        if not url:
            url = servers.url(request.param)
            migrate.up(url)
            place(url).read(many.fill, 5)
            file.write(url)
    return url


@pytest.mark.parametrize("name", WORK)
def test_few_rows_are_touched_and_found_by_their_index(url: str, servers: TestServers, name: str) -> None:
    servers.note("mariadb" if url.startswith("mysql") else "postgres")
    work, indexes = WORK[name]
    found = place(url).read(lambda c: examined(c, work), 5)
    told = "\n".join(found.told[:20])
    wanted = {i if url.startswith("mysql") else i.replace(".PRIMARY", "_pkey") for i in indexes}
    assert wanted - found.indexes == set(), told
    assert found.scanned == set(), told
    assert found.touched <= MOST_ROWS_TOUCHED, told
