"""Any checkout, whatever happens to it in whatever order, judged at every step by the laws and by a smaller model."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.core.stories import NOON, Story, made, opened

from proving.laws import money, public_news
from tulbur.core import settling, steps
from tulbur.core.orders import Discount, Item
from tulbur.core.schedule import BUDGETS, DAY, PAYER_PAUSE_SECONDS, asked_today, due_reason
from tulbur.core.session import SECOND, HintState, Reason, Session, Status, rank
from tulbur.core.settling import Evidence, InvoiceAnswer, SeenPayment
from tulbur.core.steps import GIVE_UP_SECONDS

IDS = ["p1", "p2", "p3", "p4"]
NUMBERS = st.integers(1, 4)
INVOICES = st.sampled_from(["inv1", "inv1", "inv2", "inv3", "inv4", "theirs"])
STATUSES = st.sampled_from(["PAID", "PAID", "PAID", "PARTIAL", "NEW", "FAILED", "REFUNDED", "ODD", ""])
MOST_ROUNDS = 100
"""Looks within which any checkout must come to rest, once QPay answers."""


def payments(invoices: st.SearchStrategy[str]) -> st.SearchStrategy[SeenPayment]:
    return st.builds(
        SeenPayment,
        id=st.sampled_from(IDS),
        amount=st.sampled_from([0, 1, 40_00, 60_00, 99_99, 100_00, 100_00, 150_00]),
        currency=st.sampled_from(["MNT", "MNT", "MNT", "USD"]),
        status=STATUSES,
        invoice_id=invoices,
        paid_at=st.none() | st.integers(0, 3600).map(lambda seconds: NOON + seconds * SECOND),
        raw=st.sampled_from(["", "{}"]),
    )


ANSWERS = st.builds(InvoiceAnswer, invoice_id=INVOICES, payments=st.lists(payments(st.just("")), max_size=3).map(tuple))
SOME_IDS = st.sampled_from([frozenset()] * 6 + [frozenset({name}) for name in IDS])
EVIDENCE = st.builds(
    Evidence,
    answers=st.lists(ANSWERS, max_size=2).map(tuple),
    looked_up=st.just(()) | st.lists(payments(INVOICES | st.just("")), max_size=2).map(tuple),
    foreign=SOME_IDS,
    adopted=st.just(()) | NUMBERS.map(lambda number: ((number, f"inv{number}"),)),
    complete=st.booleans(),
    taken=SOME_IDS,
)
CARTS = st.sampled_from(
    [
        {},
        {"shipping_amount": 30_00},
        {
            "items": tuple(
                Item(shop_id=shop, product_id="p", title="Tea", quantity=1, unit_price=35_00)
                for shop in ("a", "b", "c")
            ),
            "discount": Discount(code="SPRING", amount=10_00),
            "shipping_amount": 5_00,
        },
    ]
)


class Model:
    """What is known of each payment, by the plainest reading of the rules; and whether the amount was ever covered."""

    def __init__(self) -> None:
        self.payments: dict[str, SeenPayment] = {}
        self.paid = False

    def learn(self, session: Session, evidence: Evidence) -> None:
        ours = {attempt.id for attempt in session.attempts if attempt.id}
        ours |= {f"inv{number}" for number, _ in evidence.adopted}
        rows = [p for answer in evidence.answers if answer.invoice_id in ours for p in answer.payments]
        for p in evidence.looked_up:
            shown = not p.invoice_id and any(row.id == p.id for row in rows)
            rows += [p] if shown or p.invoice_id in ours else []
        best: dict[str, SeenPayment] = {}
        for row in rows:
            if row.id not in evidence.taken and (row.id not in best or rank(row.status) > rank(best[row.id].status)):
                best[row.id] = row
        for row in best.values():
            self._advance(row)
        own = [p for p in self.payments.values() if p.status == "PAID" and p.currency == session.currency]
        self.paid = self.paid or sum(p.amount for p in own) >= session.amount

    def _advance(self, row: SeenPayment) -> None:
        known = self.payments.get(row.id)
        if known is None or (rank(row.status) > rank(known.status) and known.status != "PAID"):
            self.payments[row.id] = row
        elif known.status == "PAID" and row.status == "REFUNDED":
            self.payments[row.id] = SeenPayment(
                id=row.id, amount=known.amount, currency=known.currency, status="REFUNDED"
            )


class Checkout(RuleBasedStateMachine):
    story: Story

    @initialize(cart=CARTS)
    def opens(self, cart: dict[str, object]) -> None:
        self.story = Story(opened(**cart))
        self.model = Model()

    @property
    def session(self) -> Session:
        return self.story.session

    @rule(seconds=st.sampled_from([0, 1, 3, 9, 10, 20, 600, 1800, 86_400, -1, -300, -3600]))
    def time_passes(self, seconds: int) -> None:
        self.story.now += seconds * SECOND

    @rule()
    def the_next_look_comes_due(self) -> None:
        self.story.now = max(self.story.now, self.session.next_check_at or 0)

    @rule(number=NUMBERS, qr=st.booleans())
    def qpay_makes_an_invoice(self, number: int, qr: bool) -> None:
        if number <= len(self.session.attempts):
            self.story.step(lambda s: steps.with_invoice(s, number, made(number, qr=qr), self.story.now))
        elif self.session.status is Status.PENDING:
            self.story.invoiced(number, qr=qr)

    @rule(number=NUMBERS, step=st.sampled_from([steps.invoice_unknown, steps.invoice_cancelled]))
    def an_invoice_is_lost(self, number: int, step: object) -> None:
        if number <= len(self.session.attempts):
            self.story.step(lambda s: step(s, number, self.story.now))

    @rule(number=NUMBERS)
    def an_invoice_is_refused(self, number: int) -> None:
        if number <= len(self.session.attempts):
            self.story.step(lambda s: steps.invoice_refused(s, number, "KEY", self.story.now))

    @rule(payment_id=st.sampled_from(["", *IDS]))
    def qpay_calls_back(self, payment_id: str) -> None:
        self.story.hinted(payment_id)

    @rule(reason=st.sampled_from(Reason), new_hint=st.booleans())
    def somebody_asks(self, reason: Reason, new_hint: bool) -> None:
        before = self.session
        self.story.asked(reason, new_hint=new_hint)
        if self.session is before:
            assert not new_hint, "law 12: the first look is never refused"
            return
        count = asked_today(self.session.asks, reason, self.story.now)
        assert count == asked_today(before.asks, reason, self.story.now) + 1
        assert new_hint or count <= BUDGETS[reason]
        if reason is Reason.PAYER and not new_hint:
            assert self.story.now - before.asks.last_at >= PAYER_PAUSE_SECONDS * SECOND
        assert all(look.at > self.story.now for look in self.session.looks), "another asks should this one die"

    @rule()
    def a_look_is_put_off(self) -> None:
        self.story.step(lambda s: steps.refused(s, self.story.now))

    @rule(reason=st.sampled_from(Reason), weeks=st.booleans())
    def qpay_is_silent(self, reason: Reason, weeks: bool) -> None:
        before = self.session
        self.story.step(lambda s: steps.unanswered(s, reason, self.story.now))
        assert money(self.session) == money(before)
        if weeks:
            self.story.now += GIVE_UP_SECONDS * SECOND
        self.story.step(lambda s: steps.given_up(s, self.story.now))
        assert [(p.id, p.status) for p in self.session.payments] == [(p.id, p.status) for p in before.payments]
        assert self.session.orders == before.orders

    @rule(evidence=EVIDENCE)
    def qpay_answers(self, evidence: Evidence) -> None:
        evidence = self._about_attempts_that_exist(evidence)
        before = self.session
        self.model.learn(before, evidence)
        self.story.learned(evidence)
        expected = {p.id: (p.status, p.amount, p.currency) for p in self.model.payments.values()}
        assert money(self.session)["payments"] == expected
        assert (self.session.status is Status.PAID) == self.model.paid
        assert self.session.status in (before.status, Status.PAID)
        self._answer_again(evidence)

    @rule(
        payment_id=st.sampled_from(IDS[:2]),
        amount=st.sampled_from([60_00, 100_00]),
        status=st.sampled_from(["NEW", "PARTIAL", "PAID", "PAID", "REFUNDED"]),
        number=st.integers(1, 2),
    )
    def qpay_shows_one_payment(self, payment_id: str, amount: int, status: str, number: int) -> None:
        shown = SeenPayment(id=payment_id, amount=amount, currency="MNT", status=status)
        self.qpay_answers(
            evidence=Evidence(
                answers=(InvoiceAnswer(invoice_id=f"inv{number}", payments=(shown,)),),
                adopted=((number, f"inv{number}"),),
                complete=True,
            )
        )

    def _about_attempts_that_exist(self, evidence: Evidence) -> Evidence:
        adopted = tuple((number, name) for number, name in evidence.adopted if number <= len(self.session.attempts))
        return Evidence(**{**{name: getattr(evidence, name) for name in Evidence.__slots__}, "adopted": adopted})

    def _answer_again(self, evidence: Evidence) -> None:
        assert settling.after_answer(self.session, evidence, self.story.now) is self.session
        later = settling.after_answer(self.session, evidence, self.story.now + SECOND)
        assert money(later) == money(self.session)
        assert later.exceptions == self.session.exceptions
        assert public_news(later) == []

    @rule()
    def the_deadline_passes(self) -> None:
        self.story.step(lambda s: steps.expired(s, self.story.now))
        ended = self.story.now >= self.session.expires_at
        assert not (ended and self.session.status is Status.PENDING)

    @precondition(lambda self: len(self.session.attempts) > 1 or self.session.payments)
    @rule()
    def the_shop_cancels(self) -> None:
        self.story.cancelled()
        assert self.session.status is not Status.PENDING

    def teardown(self) -> None:
        """Once QPay answers, everything comes to rest: expired or paid, each hint told what became of it."""
        if not hasattr(self, "story"):
            return
        asked: dict[tuple[int, Reason], int] = {}
        for _ in range(MOST_ROUNDS):
            if self.session.next_check_at is None:
                break
            self.story.now = max(self.story.now, self.session.next_check_at)
            reason = due_reason(self.session, self.story.now)
            before = self.session
            self.story.asked(reason)
            if self.session is before:
                self.story.step(lambda s: steps.refused(s, self.story.now))
                continue
            day = self.story.now // DAY
            asked[day, reason] = asked.get((day, reason), 0) + 1
            self.story.answered()
            self.story.step(lambda s: steps.expired(s, self.story.now))
        assert self.session.next_check_at is None
        assert self.session.status is not Status.PENDING
        assert all(hint.state is not HintState.WAITING for hint in self.session.hints)
        assert all(count <= BUDGETS[reason] for (_, reason), count in asked.items())


TestCheckout = Checkout.TestCase
TestCheckout.settings = settings(stateful_step_count=40)
