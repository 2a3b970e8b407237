"""The safeguards that `proving.ablation` removes: where each stands, what it holds, and which tests must miss it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Safeguard:
    """`text` stands once in src/tulbur/`path`; with `instead` in its place, one of `tests` has to fail."""

    name: str
    holds: str
    path: str
    text: str
    instead: str
    tests: tuple[str, ...]


CONTRACT_SQLITE: Final = ("tests/stores/test_contract.py", "-k", "sqlite or Sqlite or SQLite")
KILLS: Final = ("tests/payments/test_kills.py", "-k", "memory or not sqlite")
ATTACKS: Final = ("tests/payments/test_attacks.py", "-k", "memory or not (sqlite or postgres or mariadb or mongodb)")
MONEY: Final = ("tests/core/test_money_disagrees.py", "tests/core/test_money_late_or_other.py")
STEPS: Final = ("tests/core/test_steps.py", "tests/core/test_schedule.py", "tests/core/test_machine.py")

SAFEGUARDS: Final = (
    # --- the database
    Safeguard(
        name="compare-and-set on the version",
        holds="law 1: of two who decide at once, one is told that it lost",
        path="stores/writes.py",
        text='    sessions.c.id == bindparam("of_id"), sessions.c.version == bindparam("of_version")\n',
        instead='    sessions.c.id == bindparam("of_id"), bindparam("of_version") >= 0\n',
        tests=CONTRACT_SQLITE,
    ),
    Safeguard(
        name="unique payment",
        holds="law 1: a payment counts once, for one session",
        path="stores/writes.py",
        text='    (payments.c.session_id == bindparam("of_session")) | payments.c.session_id.is_(None),\n',
        instead='    (payments.c.session_id == bindparam("of_session")) | (payments.c.session_id != ""),\n',
        tests=CONTRACT_SQLITE,
    ),
    Safeguard(
        name="unique order of a shop",
        holds="law 1: one order per session and shop, held by the database",
        path="stores/migrations/versions/0001_first.py",
        text='    _create_index("tulbur_orders_shop", "tulbur_orders", ["session_id", "shop_id"], unique=True)\n',
        instead='    _create_index("tulbur_orders_shop", "tulbur_orders", ["session_id", "shop_id"])\n',
        tests=("tests/stores/test_sqlite.py", "-k", "unique"),
    ),
    Safeguard(
        name="unique idempotency key",
        holds="a repeated request opens nothing twice",
        path="stores/migrations/versions/0001_first.py",
        text='    _create_index("tulbur_sessions_key", "tulbur_sessions", ["scope", "idempotency_key"], unique=True)\n',
        instead='    _create_index("tulbur_sessions_key", "tulbur_sessions", ["scope", "idempotency_key"])\n',
        tests=CONTRACT_SQLITE,
    ),
    Safeguard(
        name="commit id",
        holds="a commit whose answer was lost is recognised, not taken for somebody else's",
        path="stores/writes.py",
        text="        return Committed.WON if _is_mine(connection, change) else Committed.LOST\n",
        instead="        return Committed.LOST\n",
        tests=CONTRACT_SQLITE,
    ),
    Safeguard(
        name="sending a commit again when its answer was lost",
        holds="an outcome is found out, never guessed",
        path="stores/sending.py",
        text="            lost = unknown\n",
        instead="            raise StoreUnavailable from unknown\n",
        tests=(*CONTRACT_SQLITE, "tests/stores/test_sqlite.py"),
    ),
    Safeguard(
        name="lease on due work",
        holds="two workers do not ask about one session",
        path="stores/writes.py",
        text="        .where(sessions.c.next_check_at <= now, sessions.c.lease_until <= clock)\n",
        instead="        .where(sessions.c.next_check_at <= now)\n",
        tests=CONTRACT_SQLITE,
    ),
    Safeguard(
        name="orders in the commit of PAID",
        holds="law 6: PAID, payments, orders and events are one transaction",
        path="stores/writes.py",
        text="    if made and insert_new(connection, orders, made) < len(made):\n",
        instead="    if made and not made:\n",
        tests=CONTRACT_SQLITE,
    ),
    Safeguard(
        name="writes that a power cut does not undo",
        holds="law 5: what was committed is on the disk",
        path="stores/sqlite_file.py",
        text='    connection.exec_driver_sql("PRAGMA synchronous=FULL")\n',
        instead='    connection.exec_driver_sql("PRAGMA synchronous=OFF")\n',
        tests=("tests/stores/test_sqlite.py",),
    ),
    # --- the cache
    Safeguard(
        name="MAC of cached values",
        holds="law 4: what others write into the cache is a miss",
        path="cache/__init__.py",
        text="compare_digest(mac, _mac(secret, key, version, document)) for secret in self._keys):\n",
        instead="compare_digest(mac, mac) for _ in self._keys):\n",
        tests=("tests/test_cache.py",),
    ),
    Safeguard(
        name="set only if newer",
        holds="an old state never replaces a new one in the cache",
        path="cache/__init__.py",
        text="        if kept is not None and kept.version > version:\n",
        instead="        if kept is not None and kept.version < 0:\n",
        tests=("tests/test_cache.py",),
    ),
    # --- opening
    Safeguard(
        name="intent before effect",
        holds="an invoice is never made for a session that is not stored",
        path="payments/opening.py",
        text="        await desk.store.add(session)\n",
        instead="        with contextlib.suppress(StoreUnavailable):\n            await desk.store.add(session)\n",
        tests=("tests/payments/test_kills.py", "-k", "surely_stored"),
    ),
    Safeguard(
        name="one attempt at a time",
        holds="two repeats of one request do not both make an invoice",
        path="payments/opening.py",
        text="    if await desk.commit(before, after) is not Committed.WON:\n        raise IdempotencyRunning\n",
        instead="    await desk.commit(before, after)\n",
        tests=("tests/payments/test_opening.py", "-k", "memory"),
    ),
    Safeguard(
        name="one payable QR",
        holds="two invoices of one session are never both shown",
        path="payments/opening.py",
        text="    return made if shown is None or shown.id == made.id else InvoiceMade(id=made.id)\n",
        instead="    return made\n",
        tests=("tests/payments/test_opening.py", "tests/payments/test_attacks.py", *KILLS),
    ),
    Safeguard(
        name="a superseded invoice is cancelled",
        holds="a QR that was replaced cannot be paid",
        path="payments/settling.py",
        text="    for attempt in steps.superseded(session):\n",
        instead="    for attempt in steps.superseded(session)[:0]:\n",
        tests=("tests/payments/test_opening.py", *KILLS),
    ),
    # --- callbacks and looks
    Safeguard(
        name="SUCCESS after the commit",
        holds="law 5: SUCCESS is a promise",
        path="web/callbacks.py",
        text='    except StoreUnavailable as error:\n        return "failed", error_problem(error)\n',
        instead='    except StoreUnavailable:\n        return "failed", PlainTextResponse("SUCCESS")\n',
        tests=("tests/web/test_qpay_callbacks.py",),
    ),
    Safeguard(
        name="token of the callback",
        holds="law 3: nobody but QPay makes us ask",
        path="web/callbacks.py",
        text="    if not parts.links.is_callback_token(session_id, token):\n",
        instead="    if not token:\n",
        tests=("tests/web/test_qpay_callbacks.py",),
    ),
    Safeguard(
        name="token of the old shop's webhook",
        holds="law 3: the same at the old addresses",
        path="web/seed_webhook.py",
        text="        return session is not None and is_old_token(session, token)\n",
        instead="        return session is not None\n",
        tests=("tests/web/test_seed_webhook.py", "tests/web/test_seed_webhook_callers.py"),
    ),
    Safeguard(
        name="only our own invoices",
        holds="law 3: a payment of somebody else's invoice pays nothing",
        path="core/settling.py",
        text="        if known is None and seen.invoice_id in ours:\n",
        instead="        if known is None:\n",
        tests=MONEY + STEPS,
    ),
    Safeguard(
        name="a look after every hint",
        holds="law 2: a hint that came before its payment is looked at again",
        path="core/steps.py",
        text="    after = replace(session, hints=(*kept, Hint(payment_id, now)), looks=looks)\n",
        instead="    after = replace(session, hints=(*kept, Hint(payment_id, now)))\n",
        tests=STEPS,
    ),
    Safeguard(
        name="one question in flight",
        holds="law 12: callbacks do not become a storm of questions",
        path="core/schedule.py",
        text="    if asks.busy_until > now or asked_today(asks, reason, now) >= BUDGETS[reason]:\n",
        instead="    if asked_today(asks, reason, now) >= BUDGETS[reason]:\n",
        tests=STEPS,
    ),
    Safeguard(
        name="a budget a day",
        holds="law 12: QPay is asked politely",
        path="core/schedule.py",
        text="    if asks.busy_until > now or asked_today(asks, reason, now) >= BUDGETS[reason]:\n",
        instead="    if asks.busy_until > now:\n",
        tests=STEPS,
    ),
    Safeguard(
        name="the first look for a payment id is never refused",
        holds="law 12: a budget delays no order",
        path="core/schedule.py",
        text="    if new_hint:\n        return True\n",
        instead="",
        tests=STEPS,
    ),
    Safeguard(
        name="a question asked before the deadline does not expire",
        holds="law 7: money that came in between is not overlooked",
        path="payments/settling.py",
        text="        over = answer.asked_at >= before.expires_at and not payable\n",
        instead="        over = not payable\n",
        tests=("tests/payments/test_closing.py", *ATTACKS),
    ),
    Safeguard(
        name="an incomplete answer proves nothing missing",
        holds="law 7: unknown is pending",
        path="payments/settling.py",
        text="self.evidence.complete and {attempt.id for attempt in session.asked_about} <= self.asked_ids\n",
        instead="True\n",
        tests=("tests/payments/test_closing.py", *ATTACKS, *KILLS),
    ),
    Safeguard(
        name="the lease on logging in",
        holds="two processes do not end each other's token",
        path="qpay/token.py",
        text="            if await self._store.lease(self._lease, self._owner, LEASE_SECONDS):\n",
        instead="            if await self._store.lease(self._lease, self._owner, LEASE_SECONDS) or True:\n",
        tests=("tests/qpay/test_token.py",),
    ),
    # --- money
    Safeguard(
        name="statuses only advance",
        holds="law 7: a payment never goes back",
        path="core/settling.py",
        text="        elif rank(seen.status) > rank(known.status):\n            payments[seen.id]",
        instead="        elif rank(seen.status) != rank(known.status):\n            payments[seen.id]",
        tests=MONEY + STEPS,
    ),
    Safeguard(
        name="the amount has to be covered",
        holds="law 3: short money makes no order by itself",
        path="core/settling.py",
        text="    covered = session.custody is Custody.OURS and _sum(counting) >= session.amount\n",
        instead="    covered = session.custody is Custody.OURS and _sum(counting) > 0\n",
        tests=MONEY,
    ),
    Safeguard(
        name="short money is named",
        holds="law 2: nothing waits unseen",
        path="core/disagreeing.py",
        text="        names.add(ExceptionName.UNDERPAID)\n",
        instead="        pass\n",
        tests=MONEY,
    ),
    Safeguard(
        name="excess is due back",
        holds="law 9: every tugrik is accounted for",
        path="core/settling.py",
        text="    rest = p.amount - part - p.refunded\n",
        instead="    rest = 0\n",
        tests=MONEY,
    ),
    Safeguard(
        name="another currency pays nothing",
        holds="law 3: same invoice, amount, currency",
        path="core/steps.py",
        text='    return payment.status == "PAID" and payment.currency == currency\n',
        instead='    return payment.status == "PAID" and bool(currency)\n',
        tests=MONEY,
    ),
    Safeguard(
        name="money on its way back pays for nothing",
        holds="law 9: one tugrik is not both given back and ordered",
        path="core/session.py",
        text="        return max(self.amount - self.refunded - (self.refund.amount if self.refund else 0), 0)\n",
        instead="        return self.amount - self.refunded\n",
        tests=("tests/core/test_people_decide.py",),
    ),
    Safeguard(
        name="a refund is not sent twice",
        holds="money goes back once",
        path="core/refunding.py",
        text="    if refund.way is RefundWay.QPAY:\n",
        instead="    if refund.way is RefundWay.QPAY and not by:\n",
        tests=("tests/core/test_people_decide.py", "tests/payments/test_people.py"),
    ),
    # --- the old shop
    Safeguard(
        name="followed sessions make no orders",
        holds="two systems never make orders for one payment",
        path="core/settling.py",
        text="    if session.custody is Custody.FOLLOWED:\n        return session\n    adopted = session\n",
        instead="    adopted = session\n",
        tests=("tests/core/test_moving.py",),
    ),
    Safeguard(
        name="QPay's invoice agrees with a key of the old shop's",
        holds="law 3: one paid invoice does not confirm any number of sessions",
        path="core/moving.py",
        text='    why = why if named else "QPay has its invoice for another session"\n',
        instead="",
        tests=("tests/core/test_moving.py", "tests/payments/test_adopting_kills.py"),
    ),
    Safeguard(
        name="an old row that changed is not taken over",
        holds="two systems never work on one session",
        path="payments/moving.py",
        text="        if stored.claim.digest != old.digest:\n            return TakeOver.CHANGED\n",
        instead="",
        tests=("tests/importer/test_stories.py", "tests/importer/test_attacks.py"),
    ),
    # --- the edge
    Safeguard(
        name="scopes of API keys",
        holds="a key that reads does not write",
        path="web/auth.py",
        text='        if not found.scopes & {scope, "admin"}:\n',
        instead="        if not found.scopes:\n",
        tests=("tests/web/test_auth.py",),
    ),
    Safeguard(
        name="the gateway's network",
        holds="a header alone opens no internal route",
        path="web/seed_parts.py",
        text="        return address is not None and any(address in network for network in self.networks)\n",
        instead="        return address is not None\n",
        tests=("tests/web/test_seed_opening.py", "tests/web/test_seed_webhook_callers.py"),
    ),
    Safeguard(
        name="redaction of logs",
        holds="law 11: no secret in the log",
        path="telemetry.py",
        text="    for key, value in event.items():\n        event[key] = _masked(key, value)\n    return event\n",
        instead="    return event\n",
        tests=("tests/test_telemetry.py",),
    ),
    Safeguard(
        name="MAC of spooled callbacks",
        holds="what others put into the spool is not replayed",
        path="spool/sealing.py",
        text="        if not any(hmac.compare_digest(_mac(key, name, head), mac) for key in self._keys):\n",
        instead="        if not self._keys:\n",
        tests=("tests/spool",),
    ),
)
