"""Any checkout with people at work on its money: refunds, reviews, strange payments assigned, under both rules."""

import contextlib
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from tests.core.test_machine import CARTS, EVIDENCE, IDS, Checkout

from proving.laws import money
from tulbur.core import refunding, reviewing, settling, steps
from tulbur.core.refund import RefundState
from tulbur.core.rules import Rules
from tulbur.core.session import Reason, Status
from tulbur.core.settling import Evidence, SeenPayment
from tulbur.errors import Conflict, Invalid, NotFound

PEOPLE = st.sampled_from(["bold", "sarnai"])
AMOUNTS = st.sampled_from([None, None, 1, 40_00, 100_00])
REFUSALS = (Conflict, Invalid, NotFound)


class People(Checkout):
    """The small model of the plain machine does not know people; the laws, which judge every step, do."""

    @initialize(cart=CARTS, review_late=st.booleans())
    def opens(self, cart: dict[str, object], review_late: bool) -> None:
        super().opens(cart)
        self.rules = Rules(review_late=review_late)

    @rule(evidence=EVIDENCE, card=st.booleans())
    def qpay_answers(self, evidence: Evidence, card: bool = False) -> None:
        evidence = self._about_attempts_that_exist(evidence)
        if card:
            answers = tuple(
                replace(a, payments=tuple(replace(p, method="CARD") for p in a.payments)) for a in evidence.answers
            )
            evidence = replace(evidence, answers=answers)
        before = self.session
        self.story.step(lambda s: settling.after_answer(s, evidence, self.story.now, self.rules))
        assert self.session.status in (before.status, Status.PAID)
        again = settling.after_answer(self.session, evidence, self.story.now, self.rules)
        assert money(again) == money(self.session)

    @rule()
    def the_deadline_passes(self) -> None:
        self.story.step(lambda s: steps.expired(s, self.story.now, self.rules))

    @rule()
    def the_shop_cancels(self) -> None:
        self.story.step(lambda s: steps.cancelled(s, self.story.now, self.rules))

    @rule(payment_id=st.sampled_from(IDS[:2]), amount=AMOUNTS, by=PEOPLE)
    def somebody_wants_it_back(self, payment_id: str, amount: int | None, by: str) -> None:
        with contextlib.suppress(*REFUSALS):
            self.story.step(
                lambda s: refunding.refund_requested(s, payment_id, amount, by=by, note="", now=self.story.now)
            )

    @rule(payment_id=st.sampled_from(IDS[:2]), amount=AMOUNTS, by=PEOPLE, reference=st.sampled_from(["R1", "R2"]))
    def somebody_paid_it_back(self, payment_id: str, amount: int | None, by: str, reference: str) -> None:
        with contextlib.suppress(*REFUSALS):
            self.story.step(
                lambda s: refunding.refund_closed(
                    s, payment_id, amount, by=by, reference=reference, note="", now=self.story.now
                )
            )

    @rule(payment_id=st.sampled_from(IDS[:2]))
    def qpay_will_not_give_it_back(self, payment_id: str) -> None:
        self.story.step(lambda s: refunding.refund_refused(s, payment_id, "PAYMENT_SETTLED", self.story.now))

    @rule(step=st.sampled_from([reviewing.accepted, reviewing.declined]), by=PEOPLE)
    def somebody_decides(self, step: object, by: str) -> None:
        with contextlib.suppress(*REFUSALS):
            self.story.step(lambda s: step(s, by=by, note="", now=self.story.now))

    @rule(amount=st.sampled_from([60_00, 100_00]), currency=st.sampled_from(["MNT", "USD"]))
    def somebody_gives_it_a_payment(self, amount: int, currency: str) -> None:
        theirs = SeenPayment(id="p9", amount=amount, currency=currency, status="PAID", invoice_id="theirs")
        with contextlib.suppress(*REFUSALS):
            self.story.step(
                lambda s: reviewing.assigned(s, theirs, by="bold", note="", now=self.story.now, rules=self.rules)
            )

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "story"):
            states = {refund.state for p in self.session.payments for refund in p.refunds if refund.way == "qpay"}
            assert RefundState.REQUESTED not in states, "law 2: QPay's refund ends as done, or as unconfirmed"
            assert all(look.reason is not Reason.OPERATOR for look in self.session.looks)


TestPeople = People.TestCase
TestPeople.settings = settings(stateful_step_count=50)
