"""The laws as checks: after every write, after every answer that promises something, and when all is at rest.

It reads the rows themselves, never through a use case, and knows what QPay really showed.
"""

from __future__ import annotations

import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from proving.books import Books
from proving.faults import nobody
from proving.host import LINKS
from proving.laws import check_facts, check_step
from proving.outbox import Outbox
from proving.qpay import Bill
from proving.uses import Deed, deeds
from tulbur.core import steps
from tulbur.core.schedule import BUDGETS, MOST_HINTS, PAYER_PAUSE_SECONDS
from tulbur.core.session import SECOND, Event, ExceptionName, InvoiceState, Micros, Payment, Reason, Session, Status
from tulbur.core.settling import SeenPayment
from tulbur.ports import Clock, NumberedEvent, Spooled, SweepRun
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
    seen_on: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    paid_with: dict[str, frozenset[str]] = field(default_factory=dict)
    claims: Counter[str] = field(default_factory=Counter)
    questions: Counter[str] = field(default_factory=Counter)
    answered_at: dict[str, Micros] = field(default_factory=dict)
    closed_at: dict[str, Micros] = field(default_factory=dict)
    promised: list[tuple[str, str]] = field(default_factory=list)
    visible: Callable[[], dict[str, SeenPayment]] = dict
    spooled: Callable[[], list[Spooled]] = list
    cancels_expired: bool = False
    ordered_there: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    sweeping: dict[str, dict[str, SeenPayment]] = field(default_factory=dict)
    deeds: Counter[Deed] = field(default_factory=Counter)
    commits: int = 0

    def __post_init__(self) -> None:
        self.books = Books(self.bills)
        self.outbox = Outbox(self.data)

    def did(self, deed: Deed) -> None:
        self.deeds[deed] += 1
        self.tell(f"* {deed}")

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
        self.books.committed(after)
        self.deeds.update(deeds(before, after))
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
                self._check_made_there(after)
        if after.status in _CLOSED and (before is None or before.status is not after.status):
            self.closed_at[after.id] = self.clock()
            with self.judging(after.id):
                self._check_closing(after)
                self._check_cancelling(before, after)
                self._check_expired_invoices(after)

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

    def _check_expired_invoices(self, session: Session) -> None:
        """EXPIRED_INVOICES=cancel: nobody can pay any more what has expired, unless QPay said nothing for a week."""
        if not self.cancels_expired or session.status is not Status.EXPIRED:
            return
        if any(event.data.get("unanswered") for event in session.news):
            return
        for attempt in session.asked_about:
            bill = self.bills[str(attempt.id)]
            assert bill.cancelled or bill.payments, "an expired session's invoices are cancelled at QPay first"
        if any(self.bills[str(attempt.id)].cancelled for attempt in session.asked_about):
            self.did(Deed.CLOSED_INVOICES)

    def _check_money(self, before: Session | None, after: Session) -> None:
        known = {p.id: p for p in before.payments} if before else {}
        for p in after.payments:
            was = known.get(p.id)
            if p == was:
                continue
            holder = self.holders.setdefault(p.id, after.id)
            assert holder == after.id, "law 1: a provider payment counts once, for one session"
            assert was is None or p.invoice_id == was.invoice_id, "law 7: a payment stays on its invoice"
            if p.received:
                # Once known, it may be looked up by its id alone; new, it has to be on the invoice.
                invoices = {p.invoice_id} if was is None else self.seen_on[p.id]
                facts = {(p.id, invoice, p.amount, p.currency, p.status) for invoice in invoices}
                assert facts & self.seen, "law 3: only what QPay has shown is counted"
        if after.orders and not (before and before.orders):
            self.paid_with[after.id] = frozenset(p.id for p in after.payments if p.ordered)

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
        there = session.claim.orders if session.claim else {}
        made = [order for order in session.orders if order.shop_id not in there]
        assert types.count("session.paid") == bool(made), "law 1: one order set"
        assert types.count("order.created") == len(made), "law 1: each order is told once, and none of the old shop's"

    def _check_made_there(self, session: Session) -> None:
        """What the old shop has ordered is ordered here by its word alone, and announced by nobody."""
        if made := self.ordered_there.get(session.id):
            known = session.claim.orders if session.claim else {}
            assert set(made) <= set(known), "law 1: one order set, whichever of the two shops made it"

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
        self.seen_on[p.id].add(invoice_id)

    # --- what callers were told

    def answered(self, session_id: str, payment_id: str) -> None:
        """A callback was answered SUCCESS: what it said is in the database now, or in the spool."""
        with self.judging(session_id):
            spooled = any((one.session_id, one.payment_id) == (session_id, payment_id) for one in self.spooled())
            assert spooled or self._is_kept(session_id, payment_id), "law 5: SUCCESS is a promise, and nothing was kept"
        if payment_id:
            self.promised.append((session_id, payment_id))

    def replayed(self, session_id: str, payment_id: str) -> None:
        """A spooled callback is about to be forgotten."""
        with self.judging(session_id):
            assert self._is_kept(session_id, payment_id), "law 5: what the spool forgets is in the database"

    def _is_kept(self, session_id: str, payment_id: str) -> bool:
        if payment_id in self.data.payments:
            return True
        if session_id not in self.data.sessions:
            return not payment_id  # nothing was said that could be kept
        session = self.stored(session_id)
        return any(hint.payment_id == payment_id for hint in session.hints) or steps.knows(session, payment_id)

    def told(self, session: Session) -> None:
        """A caller was handed this session: nothing in it may be more than the database has."""
        with self.judging(session.id):
            stored = self.stored(session.id)
            assert session.version <= stored.version, "law 4: nobody is told what is not stored"
            assert session.status is not Status.PAID or stored.status is Status.PAID, "law 3: no false paid"
            assert session.orders in ((), stored.orders)
            known = {attempt.id for attempt in stored.attempts}
            assert {attempt.id for attempt in session.attempts if attempt.id} <= known, "what is shown is stored"

    # --- the shop's receiver, and QPay's list

    def received(self, numbered: NumberedEvent) -> None:
        with self.judging(numbered.session_id):
            self.outbox.received(numbered)
        self.did(Deed.REDELIVERED if numbered.event.id in self.outbox.parked else Deed.DELIVERED)

    def ticked_off(self, event_ids: Sequence[str]) -> None:
        with self.judging(", ".join(event_ids)):
            self.outbox.ticked_off(event_ids)

    def gave_up(self, event_ids: Sequence[str]) -> None:
        for _ in self.outbox.gave_up(event_ids):
            self.did(Deed.PARKED)

    def swept(self, run: SweepRun) -> None:
        """A sweep begins, or says what it saw: whatever QPay showed all the while is known by then."""
        if run.ended_at is None:
            self.sweeping[run.id] = self.visible()
            return
        if run.report["seen"] != "all":
            self.did(Deed.SWEPT_IN_PART)
            return
        self.did(Deed.SWEPT)
        self.deeds[Deed.SWEPT_UP] += run.report["settled"]
        if run.reason in ("daily", "catch_up"):
            self.did(Deed.SWEPT_DAILY if run.reason == "daily" else Deed.SWEPT_BACK)
        with self.judging(f"sweep {run.id}"):
            for p in self.sweeping[run.id].values():
                if run.start <= (p.paid_at or 0) < run.end:
                    assert self.is_known(p), "law 9: a sweep that says it saw all has missed money"

    def is_known(self, p: SeenPayment) -> bool:
        """Whether a payment has its place: a session, a hint, the list of those without one, another's invoice."""
        row = self.data.payments.get(p.id)
        if row is not None and (row["session_id"] is not None or row["amount"] is not None):
            return True
        if not LINKS.is_ours(self.bills[p.invoice_id].request.sender_invoice_no):
            return True
        return any(hint.payment_id == p.id for id_ in self.data.sessions for hint in self.stored(id_).hints)

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
                for p in session.payments:
                    self._check_seen_by_somebody(session, p)
        with self.judging("the whole database"):
            asked = Counter(bill.request.sender_invoice_no for bill in self.bills.values())
            assert max(asked.values(), default=0) <= 1, "an invoice is never asked for twice"
            keyed = [row for row in self.data.sessions.values() if row["idempotency_key"] is not None]
            assert len(keyed) == len(self.data.keys), "one session per idempotency key"
            numbered = [self.data.events[id_] for id_ in self.data.numbers]
            last: dict[str, int] = {}
            for row in numbered:
                assert last.get(row["session_id"], 0) < row["seq"], "a session's events are numbered in order"
                last[row["session_id"]] = row["seq"]
            assert not self.data.waiting, "every public event has its number"
            if self.outbox.heard:
                self.outbox.at_rest()
            assert not self.spooled(), "law 2: nothing waits in the spool"
            for row in self.data.payments.values():
                lost = row["session_id"] is None and row["closed_at"] is None and row["amount"] is None
                assert not lost, "law 2: a payment id that nobody looks up any more is closed, or has its amount"

    def _check_seen_by_somebody(self, session: Session, p: Payment) -> None:
        """A refund that is not done is on the list of work, or has a name."""
        if p.refund is not None:
            listed = p.refund_due or p.held
            assert listed or session.exceptions, "law 2: a refund that waits is where somebody looks"


def _overflows(session: Session) -> bool:
    return len(session.hints) >= MOST_HINTS


def _by_id(order: object) -> str:
    return str(getattr(order, "id", ""))
