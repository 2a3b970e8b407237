"""The laws as checks: after every write, after every answer that promises something, and when all is at rest.

It reads the rows themselves, never through a use case, and knows what QPay really showed.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from proving.faults import nobody
from proving.laws import check_facts, check_step
from proving.qpay import Bill
from tulbur.core import steps
from tulbur.core.schedule import BUDGETS, MOST_HINTS, PAYER_PAUSE_SECONDS
from tulbur.core.session import SECOND, Event, ExceptionName, InvoiceState, Micros, Reason, Session, Status
from tulbur.core.settling import SeenPayment
from tulbur.ports import Clock
from tulbur.stores.memory import MemoryData
from tulbur.stores.rows import read_order

MOST_SKEW_SECONDS: Final = 300
"""A process's clock is at most so much off."""

_CLOSED = (Status.EXPIRED, Status.CANCELLED)


class Broken(AssertionError):
    """A law was broken."""


def told_by(error: BaseException) -> str:
    """What an assertion says; one without words is named by its line."""
    if str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}: {frames[-1].line}" if frames else repr(error)


@dataclass
class Oracle:
    """Judges one run; the first law that is broken goes to `on_broken`."""

    data: MemoryData
    bills: Mapping[str, Bill]
    stored: Callable[[str], Session]
    clock: Clock
    on_broken: Callable[[Broken], None]
    tell: Callable[[str], None] = nobody
    holders: dict[str, str] = field(default_factory=dict)
    seen: set[tuple[str, str, int, str, str]] = field(default_factory=set)
    claims: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    answered_at: dict[str, Micros] = field(default_factory=dict)
    closed_at: dict[str, Micros] = field(default_factory=dict)
    promised: list[tuple[str, str]] = field(default_factory=list)
    commits: int = 0

    @contextmanager
    def judging(self, subject: str) -> Iterator[None]:
        """Whatever is not so inside is a broken law."""
        try:
            yield
        except AssertionError as error:
            broken = Broken(f"{told_by(error)} [{subject}]")
            self.tell(f"BROKEN {broken}")
            self.on_broken(broken)

    # --- every write

    def committed(self, before: Session | None, after: Session, stored: Session) -> None:
        self.commits += 1
        self.tell(f"{after.id} {after.status} v{stored.version} {[event.type for event in after.news]}")
        with self.judging(after.id):
            expected = after.committed()
            assert stored == expected, "a stored session reads back as it was"
            check_facts(stored)
            if before is not None:
                check_step(before, after)
            self._check_money(before, after)
            self._check_questions(before, after)
            if after.orders and not (before and before.orders):
                self._check_orders(after)
        if after.status in _CLOSED and (before is None or before.status is not after.status):
            self.closed_at[after.id] = self.clock()
            with self.judging(after.id):
                self._check_closing(after)
                self._check_cancelling(before, after)

    def _check_closing(self, session: Session) -> None:
        """Closed after QPay said of each invoice, in full, what is paid; silence closes only after a week, by name."""
        if session.status is not Status.EXPIRED or ExceptionName.UNCONFIRMED in session.exceptions:
            return
        since = session.expires_at - MOST_SKEW_SECONDS * SECOND
        for attempt in session.asked_about:
            assert self.answered_at.get(str(attempt.id), 0) >= since, "law 7: unknown is pending, never unpaid"

    def _check_cancelling(self, before: Session | None, after: Session) -> None:
        """Whoever cancels has made sure that nobody can pay any more."""
        if after.status is not Status.CANCELLED or before is None:
            return
        for attempt in before.attempts:
            if attempt.state is InvoiceState.OPEN:
                bill = self.bills[str(attempt.id)]
                assert bill.cancelled or bill.payments, "law 7: a cancelled session's invoices are cancelled at QPay"

    def _check_money(self, before: Session | None, after: Session) -> None:
        known = before.payments if before else ()
        for p in after.payments:
            if p in known:
                continue
            holder = self.holders.setdefault(p.id, after.id)
            assert holder == after.id, "law 1: a provider payment counts once, for one session"
            if p.received:
                fact = (p.id, p.invoice_id, p.amount, p.currency, p.status)
                assert fact in self.seen, "law 3: only what QPay has shown is counted"

    def _check_questions(self, before: Session | None, after: Session) -> None:
        for event in after.news:
            if event.type != "check.asked" or before is None:
                continue
            self.claims[after.id] += 1
            reason = Reason(str(event.data["reason"]))
            # The first look for a new payment id is never refused.
            if reason is Reason.CALLBACK and (len(after.hints) > len(before.hints) or _overflows(before)):
                continue
            self._check_question(before, after, event, reason)

    def _check_question(self, before: Session, after: Session, event: Event, reason: Reason) -> None:
        assert before.asks.busy_until <= event.at, "law 12: one question at a time"
        first_looks = len(after.hints) + 1
        assert after.asks.counts[reason] <= BUDGETS[reason] + first_looks, "law 12: each class has its budget"
        if reason is Reason.PAYER:
            pause = event.at - before.asks.last_at
            assert pause >= PAYER_PAUSE_SECONDS * SECOND, "law 12: the payer's page asks once per ten seconds"

    def _check_orders(self, session: Session) -> None:
        rows = [read_order(row) for row in self.data.orders.values() if row["session_id"] == session.id]
        assert sorted(rows, key=_by_id) == sorted(session.orders, key=_by_id), "law 6: PAID and its orders are one"
        types = [self.data.events[id_]["type"] for id_ in self.data.histories[session.id]]
        assert types.count("session.paid") == 1, "law 1: one order set"
        assert types.count("order.created") == len(session.orders), "law 1: each order is told once"

    # --- questions and answers at QPay

    def asked(self, invoice_id: str) -> None:
        """One `payment/check` on its way to QPay: its right was claimed in the database before."""
        session_id = self.data.invoices.get(invoice_id)
        if session_id is None:
            return  # found by a payment, and not ours yet
        self.questions[invoice_id] += 1
        with self.judging(session_id):
            # An invoice adopted by its payment may be asked about once more by each look that found it.
            most = self.claims[session_id] * 2
            assert self.questions[invoice_id] <= most, "law 12: the right to ask is claimed before asking"

    def answered_in_full(self, invoice_id: str) -> None:
        """QPay's whole answer about an invoice has reached whoever asked."""
        self.answered_at[invoice_id] = self.clock()

    def shown(self, invoice_id: str, p: SeenPayment) -> None:
        self.seen.add((p.id, invoice_id, p.amount, p.currency, p.status))

    # --- what callers were told

    def answered(self, session_id: str, payment_id: str) -> None:
        """A callback was answered SUCCESS: what it said is in the database now."""
        with self.judging(session_id):
            session = self.stored(session_id)
            hinted = any(hint.payment_id == payment_id for hint in session.hints)
            unmatched = payment_id in self.data.payments
            kept = hinted or unmatched or steps.knows(session, payment_id)
            assert kept, "law 5: SUCCESS is a promise, and nothing was kept"
        if payment_id:
            self.promised.append((session_id, payment_id))

    def told(self, session: Session) -> None:
        """A caller was handed this session: nothing in it may be more than the database has."""
        with self.judging(session.id):
            stored = self.stored(session.id)
            assert session.version <= stored.version, "law 4: nobody is told what is not stored"
            assert session.status is not Status.PAID or stored.status is Status.PAID, "law 3: no false paid"
            assert session.orders in ((), stored.orders)
            known = {attempt.id for attempt in stored.attempts}
            assert {attempt.id for attempt in session.attempts if attempt.id} <= known, "what is shown is stored"

    # --- at rest

    def at_rest(self) -> None:
        """What is true of the whole database when nothing is due any more."""
        for session_id in self.data.sessions:
            with self.judging(session_id):
                session = self.stored(session_id)
                check_facts(session)
                assert session.next_check_at is None, "law 2: nothing waits without an end"
                if session.orders:
                    self._check_orders(session)
        with self.judging("the whole database"):
            asked = Counter(bill.request.sender_invoice_no for bill in self.bills.values())
            assert max(asked.values(), default=0) <= 1, "an invoice is never asked for twice"
            assert len(self.data.sessions) == len(self.data.keys), "one session per idempotency key"
            numbered = [self.data.events[id_] for id_ in self.data.numbers]
            last: dict[str, int] = {}
            for row in numbered:
                assert last.get(row["session_id"], 0) < row["seq"], "a session's events are numbered in order"
                last[row["session_id"]] = row["seq"]
            assert not self.data.waiting, "every public event has its number"


def _overflows(session: Session) -> bool:
    return len(session.hints) >= MOST_HINTS


def _by_id(order: object) -> str:
    return str(getattr(order, "id", ""))
