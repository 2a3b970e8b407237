"""Which laws are broken, judged from the books, from QPay's own, and from what people were told: pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from proving.chaos.books import Books, Row
from proving.chaos.witness import Taken, Witness
from proving.laws import check_facts
from tulbur.core.session import PUBLIC_EVENTS, Session, Status

PARTS: Final = ("ordered", "refund_due", "refunded", "held")

EXPECTED_LOG_LINES: Final = (
    r"the database is away: a callback went to the spool",  # an operator has to know, and here nobody is one
)
"""Errors in the logs that are meant to be there, as patterns; each with its reason."""


def verdict(books: Books, witness: Witness, bank: Sequence[Taken], shops: Sequence[str]) -> Iterator[str]:
    """Every law that is broken; `shops` are those of every cart."""
    yield from promises(books, witness)
    yield from told(books, witness)
    yield from money(books, bank)
    yield from sessions(books, shops)
    yield from events(books)


def waits(books: Books) -> Iterator[str]:
    """What has not come to rest. In the end nothing may."""
    for session in books.sessions.values():
        if session.status is Status.PENDING:
            yield f"law 2: session {session.id} is still PENDING"
        elif session.next_check_at is not None:
            yield f"law 2: session {session.id} is {session.status} and still to be looked at"
    for event in books.events:
        if event["type"] in PUBLIC_EVENTS and event["no"] is None:
            yield f"event {event['id']} has no number yet"


def promises(books: Books, witness: Witness) -> Iterator[str]:
    """Every callback that was answered SUCCESS is known, with its session."""
    for payment_id, session_id in witness.acknowledged.items():
        row = books.payments.get(payment_id)
        if row is None or row["session_id"] != session_id:
            yield f"law 5: SUCCESS was answered for payment {payment_id} of session {session_id}, which has not got it"


def told(books: Books, witness: Witness) -> Iterator[str]:
    """Whoever was told something finds it stored."""
    for key, ids in witness.opened.items():
        if len(found := sorted(ids)) > 1:
            yield f"law 1: one key, {key}, was answered with the sessions {', '.join(found)}"
        yield from (f"session {id_} was opened, and is not stored" for id_ in found if id_ not in books.sessions)
    for session_id in witness.told_paid:
        if (session := books.sessions.get(session_id)) is None or session.status is not Status.PAID:
            yield f"law 7: session {session_id} was shown as PAID, and is not"


def money(books: Books, bank: Sequence[Taken]) -> Iterator[str]:
    """Every payment QPay took is accounted for in its session; what was paid in full is ordered, once."""
    ours = {attempt.sender_invoice_no: s for s in books.sessions.values() for attempt in s.attempts}
    full: Counter[str] = Counter()
    for one in bank:
        session = ours.get(one.sender_invoice_no)
        if session is None:
            yield f"law 2: payment {one.id} is on invoice {one.sender_invoice_no}, which no session has"
            continue
        if one.status == "PAID" and one.currency == session.currency:
            full[session.id] += one.amount
        yield from _entered(books, session, one)
    listed = {one.id for one in bank}
    yield from (f"law 3: payment {id_} is here, and not at QPay" for id_ in books.payments if id_ not in listed)
    for session_id, amount in full.items():
        session = books.sessions[session_id]
        if amount >= session.amount and session.status is not Status.PAID:
            yield f"law 2: session {session_id} was paid in full and is {session.status}"
        elif amount < session.amount and session.status is Status.PAID:
            yield f"law 3: session {session_id} is PAID, with {amount} of {session.amount}"


def _entered(books: Books, session: Session, one: Taken) -> Iterator[str]:
    row = books.payments.get(one.id)
    if row is None or row["session_id"] != session.id:
        yield f"law 9: payment {one.id} of session {session.id} is not known"
        return
    if (row["amount"], row["currency"], row["status"]) != (one.amount, one.currency, one.status):
        yield f"law 9: payment {one.id} is {row['amount']} {row['currency']} {row['status']} here, not as at QPay"
    if sum(row[part] for part in PARTS) != one.amount:
        yield f"law 9: the parts of payment {one.id} do not add up to it"
    payment = session.payment(one.id)
    if payment is None or any(getattr(payment, part) != row[part] for part in PARTS):
        yield f"law 6: payment {one.id} is not the same in its row and in its session"
    if (row["refund_due"] or row["held"]) and not session.exceptions:
        yield f"law 2: payment {one.id} is not all ordered, and session {session.id} names no exception"


def sessions(books: Books, shops: Sequence[str]) -> Iterator[str]:
    """Each session by itself, and its orders: one for each shop where it is PAID, else none."""
    orders: defaultdict[str, list[Row]] = defaultdict(list)
    for order in books.orders:
        orders[order["session_id"]].append(order)
    yield from (f"law 1: orders of session {id_}, which is not stored" for id_ in orders.keys() - books.sessions.keys())
    keys = Counter((s.scope, s.idempotency_key) for s in books.sessions.values() if s.idempotency_key)
    yield from (f"law 1: {times} sessions have the key {key[1]}" for key, times in keys.items() if times > 1)
    for session in books.sessions.values():
        try:
            check_facts(session)
        except AssertionError as broken:
            yield f"session {session.id}: {str(broken).partition(chr(10))[0] or 'a law of the session is broken'}"
        made = sorted((order["shop_id"], order["id"], order["total"]) for order in orders[session.id])
        if made != sorted((order.shop_id, order.id, order.total) for order in session.orders):
            yield f"law 6: the orders of session {session.id} are not those that its document has"
        wanted = sorted(shops) if session.status is Status.PAID else []
        if [shop for shop, *_ in made] != wanted:
            yield f"law 1: session {session.id} is {session.status} and has {len(made)} orders"


def events(books: Books) -> Iterator[str]:
    """Each session tells its whole story, and the public ones are numbered without a gap."""
    numbers = sorted(event["no"] for event in books.events if event["no"] is not None)
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"the numbers of {len(numbers)} events end at {numbers[-1]}: there is a gap, or one is there twice"
    stories: defaultdict[str, list[Row]] = defaultdict(list)
    for event in books.events:
        stories[event["session_id"]].append(event)
    for session in books.sessions.values():
        story = stories[session.id]
        if [event["seq"] for event in story] != list(range(1, session.event_count + 1)):
            yield f"law 6: session {session.id} has had {session.event_count} events, and {len(story)} are stored"
        types = [event["type"] for event in story]
        if types.count("session.paid") != (session.status is Status.PAID):
            yield f"law 1: session {session.id} tells {types.count('session.paid')} times that it was paid"
        if types.count("order.created") != len(session.orders):
            yield f"law 6: session {session.id} does not tell of each order"


def complaints(log: str) -> Iterator[str]:
    """Errors in a process's log that nobody has foreseen."""
    for line in log.splitlines():
        if not re.search(r'"level": ?"(error|critical)"|Traceback', line):
            continue
        if not any(re.search(pattern, line) for pattern in EXPECTED_LOG_LINES):
            yield line[:1000]
