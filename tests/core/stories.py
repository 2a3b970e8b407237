"""A checkout told in a few words: it opens, QPay answers, it expires; the laws are checked at every step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proving.laws import PARTS, check_session, check_step, public_news
from tulbur.core import schedule, settling, steps
from tulbur.core.session import SECOND, Event, Micros, Payment, Reason, Session, Status
from tulbur.core.settling import Evidence, InvoiceAnswer, SeenPayment

NOON: Micros = 20_000 * schedule.DAY + schedule.DAY // 2
EXPIRES_IN = 1800 * SECOND
AMOUNT = 100_00


def opened(**fields: Any) -> Session:
    """A session of 100 tugrik, opened at noon, with its first attempt still creating."""
    values = {"id": "S1", "user_id": "u1", "amount": AMOUNT, "created_at": NOON, "expires_at": NOON + EXPIRES_IN}
    return steps.opened(Session(**{**values, **fields}), sender_invoice_no="TB1", deadline=NOON + 30 * SECOND)


def made(number: int, *, qr: bool = True) -> steps.InvoiceMade:
    return steps.InvoiceMade(id=f"inv{number}", qr_text=f"QR{number}" if qr else "", qr_image="png" if qr else "")


def seen(payment_id: str, tugrik: int, status: str = "PAID", **fields: Any) -> SeenPayment:
    return SeenPayment(**{"id": payment_id, "amount": tugrik * 100, "currency": "MNT", "status": status, **fields})


def answer(*payments: SeenPayment, complete: bool = True, invoice: str = "inv1", **fields: Any) -> Evidence:
    """What one look brought: the payments on one invoice."""
    one = InvoiceAnswer(invoice_id=invoice, payments=payments, complete=complete)
    return Evidence(answers=(one,), complete=complete, **fields)


def dated(seconds: float) -> Micros:
    """A point in time, in seconds after noon."""
    return NOON + round(seconds * SECOND)


class Story:
    """One session, its clock and all its public events."""

    def __init__(self, session: Session | None = None) -> None:
        self.now = NOON
        self.session = opened() if session is None else session
        self.events = public_news(self.session)
        self.heard: list[Event] = []
        self._seen_ids = {event.id for event in self.session.news}
        check_session(self.session)
        self.session = self.session.committed()

    def step(self, do: Callable[[Session], Session]) -> Session:
        """Take one step, judge it by the laws, and commit it."""
        before = self.session
        after = do(before)
        check_step(before, after)
        check_session(after)
        ids = {event.id for event in after.news}
        assert not ids & self._seen_ids, "event ids are unique"
        self._seen_ids |= ids
        self.events += public_news(after)
        self.heard += after.news
        if after is not before:
            self.session = after.committed()
        return self.session

    def invoiced(self, number: int = 1, *, qr: bool = True) -> "Story":
        while len(self.session.attempts) < number:
            following = f"TB{len(self.session.attempts) + 1}"
            self.step(
                lambda s, no=following: steps.attempted(
                    s, sender_invoice_no=no, now=self.now, deadline=self.now + 30 * SECOND
                )
            )
        self.step(lambda s: steps.with_invoice(s, number, made(number, qr=qr), self.now))
        return self

    def answered(self, *payments: SeenPayment, **options: Any) -> "Story":
        return self.learned(answer(*payments, **options))

    def learned(self, evidence: Evidence) -> "Story":
        self.step(lambda s: settling.after_answer(s, evidence, self.now))
        return self

    def hinted(self, payment_id: str) -> "Story":
        self.step(lambda s: steps.hinted(s, payment_id, self.now))
        return self

    def asked(self, reason: Reason = Reason.CALLBACK, *, new_hint: bool = False) -> "Story":
        self.step(lambda s: steps.asked(s, reason, self.now, new_hint=new_hint))
        return self

    def at(self, seconds: float) -> "Story":
        """The clock, in seconds after noon."""
        self.now = dated(seconds)
        return self

    def expired(self) -> "Story":
        self.now = max(self.now, self.session.expires_at)
        self.step(lambda s: steps.expired(s, self.now))
        return self

    def cancelled(self) -> "Story":
        self.step(lambda s: steps.cancelled(s, self.now))
        return self


def started() -> Story:
    """A checkout whose invoice is open and shown; its opening events are not told again."""
    story = Story().invoiced()
    story.events = []
    return story


@dataclass(frozen=True)
class Outcome:
    """What a story comes to; `money` names each payment's parts, "60 held", `told` the public events in order."""

    status: Status
    exceptions: set[str] = field(default_factory=set)
    money: dict[str, str] = field(default_factory=dict)
    told: str = ""

    def judge(self, story: Story) -> None:
        session = story.session
        assert session.status is self.status
        assert {e.value for e in session.exceptions} == self.exceptions
        assert {p.id: _in_words(p) for p in session.payments} == self.money
        assert " ".join(story.events) == self.told


def _in_words(payment: Payment) -> str:
    parts = {part: getattr(payment, part) for part in PARTS}
    return ", ".join(f"{amount / 100:g} {part}" for part, amount in parts.items() if amount)


SEEN = "payment.seen"
NAMED = "session.exception"
DUE = "refund.due"
BACK = f"{SEEN} refund.done"
ORDERED = "order.created session.paid"
