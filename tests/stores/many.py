"""Two hundred thousand sessions as a shop has them after a while, made by the database itself."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text

from tulbur.core import codec
from tulbur.stores.contracts.samples import NOW, session

SESSIONS: Final = 200_000
_BLANKED: Final = SESSIONS * 9 // 10
"""Up to here what is paid was blanked."""

NUMBERS: Final = {
    "postgresql": f"(SELECT n FROM generate_series(CAST(1 AS BIGINT), {SESSIONS}) AS n) AS numbers",
    "mariadb": f"(SELECT seq AS n FROM seq_1_to_{SESSIONS}) AS numbers",
}
RECENT: Final = SESSIONS - 150
"""From here on nobody has been told yet."""

# Of a hundred sessions 70 are paid, most of them blanked, 20 expired, 3 cancelled, 7 waiting; few have exceptions.
_STATUS: Final = (
    "CASE WHEN MOD(n, 100) < 70 THEN 'PAID' WHEN MOD(n, 100) < 90 THEN 'EXPIRED' "
    "WHEN MOD(n, 100) < 93 THEN 'CANCELLED' ELSE 'PENDING' END"
)
_SESSIONS: Final = f"""
INSERT INTO tulbur_sessions (id, version, status, exceptions, user_id, scope, idempotency_key, body_digest, amount,
    currency, unsettled, created_at, updated_at, expires_at, next_check_at, lease_owner, lease_until, commit_id,
    blanked_at, document)
SELECT CONCAT('s-', n), 3, {_STATUS}, CASE WHEN MOD(n, 400) = 1 THEN ',late,' ELSE '' END, CONCAT('u-', MOD(n, 4000)),
    'a', CONCAT('k-', n), '', 5000000, 'MNT', CASE WHEN MOD(n, 400) = 1 THEN 100 ELSE 0 END, :now + n * 1000000,
    :now + n * 1000000, :now + n * 1000000, CASE WHEN MOD(n, 100) >= 93 THEN :now + n * 1000000 END, NULL, 0,
    CONCAT('c-', n), CASE WHEN MOD(n, 100) < 70 AND n < {_BLANKED} THEN :now END, :document
FROM """
_INVOICES: Final = """
INSERT INTO tulbur_invoices (session_id, number, provider, invoice_id, sender_invoice_no, state, created_at, deadline)
SELECT CONCAT('s-', n), 1, 'qpay', CONCAT('inv-s-', n), CONCAT('TB-s-', n), 'open', :now + n, :now + n FROM """
# One of twenty has no session and is to be looked at, or was closed; a few have money held, or due back. As the first
# release writes them: nothing that its schema did not have is named.
_PAYMENTS: Final = """
INSERT INTO tulbur_payments (provider, payment_id, session_id, hinted_session_id, invoice_id, amount, currency, status,
    method, wallet, seen_at, due_at, paid_at, ordered, refund_due, refunded, held, raw)
SELECT 'qpay', CONCAT('pay-', n), CASE WHEN MOD(n, 20) <> 0 THEN CONCAT('s-', n) END, '', CONCAT('inv-s-', n),
    5000000, 'MNT', 'PAID', 'P2P', '', :now + n, CASE WHEN MOD(n, 40) = 20 THEN :now + n END, NULL, 5000000,
    CASE WHEN MOD(n, 1000) = 1 THEN 100 ELSE 0 END, 0, CASE WHEN MOD(n, 1000) = 2 THEN 100 ELSE 0 END, '' FROM """
_CLOSED: Final = "UPDATE tulbur_payments SET closed_at = seen_at WHERE session_id IS NULL AND due_at IS NULL"
_SOME: Final = " WHERE MOD(n, 5) = 1"
_ORDERS: Final = """
INSERT INTO tulbur_orders (id, session_id, shop_id, total, discount, shipping_amount, currency, created_at, items)
SELECT CONCAT('o-', n), CONCAT('s-', n), 'tea', 5000000, 0, 0, 'MNT', :now + n, :items FROM """
# The first event of each session is public, the second is not.
_EVENTS: Final = f"""
INSERT INTO tulbur_events (id, session_id, seq, type, at, state, no, lease_owner, lease_until, commit_id, data)
SELECT CONCAT('e-', n, '-1'), CONCAT('s-', n), 1, 'session.opened', :now + n * 1000000,
    CASE WHEN n < {RECENT} AND MOD(n, 100) = 7 THEN 4 WHEN n < {RECENT} THEN 3 WHEN MOD(n, 2) = 0 THEN 2 ELSE 1 END,
    CASE WHEN n < {RECENT} OR MOD(n, 2) = 0 THEN n END, NULL, 0, CONCAT('c-', n), '{{}}' FROM """
_PRIVATE_EVENTS: Final = """
INSERT INTO tulbur_events (id, session_id, seq, type, at, state, no, lease_owner, lease_until, commit_id, data)
SELECT CONCAT('e-', n, '-2'), CONCAT('s-', n), 2, 'callback.received', :now + n * 1000000 + 1, 0, NULL, NULL, 0,
    CONCAT('d-', n), '{}' FROM """
_SWEEPS: Final = """
INSERT INTO tulbur_sweeps (id, started_at, ended_at, window_start, window_end, reason, complete, report)
SELECT CONCAT('sweep-', n), :now + n, :now + n, :now + n, :now + n, 'daily', MOD(n, 2), '{}' FROM """


def fill(connection: Connection) -> None:
    """Fill a migrated, empty database; some ten seconds."""
    document = codec.encode(session("s-0", items=(), shipping={}, metadata={}).committed())
    values = {"document": document, "items": b"[]"}
    numbers = NUMBERS[connection.dialect.name]
    for statement in (_SESSIONS, _INVOICES, _PAYMENTS, _ORDERS, _EVENTS, _PRIVATE_EVENTS, _SWEEPS):
        made = text(statement.replace(":now", str(NOW)) + numbers + (_SOME if statement is _ORDERS else ""))
        connection.execute(made, {name: value for name, value in values.items() if f":{name}" in statement})
    connection.exec_driver_sql(_CLOSED)
    for table in ("sessions", "invoices", "payments", "orders", "events", "sweeps"):
        word = "ANALYZE TABLE" if connection.dialect.name == "mariadb" else "ANALYZE"
        connection.exec_driver_sql(f"{word} tulbur_{table}")
