"""Settle: claim the right to ask, ask QPay while holding nothing, decide, commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tulbur.core import steps
from tulbur.core.custody import Custody
from tulbur.core.refunding import told_by_themselves
from tulbur.core.rules import Rules
from tulbur.core.schedule import waiting
from tulbur.core.session import Hint, Invoice, InvoiceState, Micros, Payment, Reason, Session, Status
from tulbur.core.settling import Evidence, InvoiceAnswer, SeenPayment, after_answer, still_followed
from tulbur.core.values import replace
from tulbur.errors import ProviderError, ProviderRefused, StoreUnavailable
from tulbur.payments.adopting import adopt
from tulbur.payments.desk import MOST_COMMITS, Desk
from tulbur.ports import Cancelling, Committed, PaymentTaken

MOST_LOOKUPS: Final = 5
"""Payments looked up by their id in one look."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A session after a look; `asked` is False when no question was allowed, `answered` False when QPay was silent."""

    session: Session
    asked: bool
    answered: bool


async def settle(desk: Desk, session_id: str, reason: Reason, payment_id: str = "", *, by: str = "") -> Looked:
    """The one door: ask QPay about a session, if a question of this class is allowed now, and act on the answer.

    A payment of the session that has come further elsewhere, `payment_id`, is looked up by itself, too. `by` is the
    person who wants to know, if it is one.
    """
    asked = False

    def claim(session: Session) -> Session:
        nonlocal asked
        after = steps.asked(session, reason, desk.clock(), by=by)
        asked = after is not session
        return after

    session = await desk.step(session_id, claim)
    if not asked:
        return Looked(session, asked=False, answered=False)
    return await ask(desk, session, reason, payment_id)


async def ask(desk: Desk, session: Session, reason: Reason, payment_id: str = "") -> Looked:
    """Ask the question that was claimed for `session`, decide by the answer and commit."""
    desk.sink.asked(reason)
    if session.custody is Custody.FOLLOWED:
        session, answered = await adopt(desk, session)
        if session.custody is Custody.FOLLOWED:
            return Looked(await _unproven(desk, session, reason, answered=answered), asked=True, answered=answered)
    answer = await _answer(desk, session, payment_id)
    settled = await _decide(desk, session.id, reason, answer)
    if settled.status is Status.PAID:
        settled = await cancel_superseded(desk, settled)
    elif desk.rules.cancel_expired and answer.is_whole_of(settled) and answer.asked_at >= settled.expires_at:
        settled = await _expired_without_invoices(desk, settled)
    return Looked(settled, asked=True, answered=answer.evidence.complete)


async def _unproven(desk: Desk, session: Session, reason: Reason, *, answered: bool) -> Session:
    def step(stored: Session) -> Session:
        now = desk.clock()
        if answered or stored.custody is not Custody.FOLLOWED:
            return still_followed(stored, now)
        return steps.given_up(steps.unanswered(stored, reason, now), now, desk.rules)

    return await desk.step(session.id, step)


async def _decide(desk: Desk, session_id: str, reason: Reason, answer: _Answer) -> Session:
    """Apply the answer to the row as it is now; another's commit in between only means to decide again."""
    taken: frozenset[str] = frozenset()
    for _ in range(MOST_COMMITS):
        before = await desk.stored(session_id)
        after = _decided(before, reason, answer, taken, desk.rules)
        if after is before:
            return before
        result = await desk.commit(before, after)
        if result is Committed.WON:
            return after.committed()
        if isinstance(result, PaymentTaken):
            taken |= result.ids
    raise StoreUnavailable("the session is being changed too often; try again")


def _decided(before: Session, reason: Reason, answer: _Answer, taken: frozenset[str], rules: Rules) -> Session:
    complete = answer.is_whole_of(before)
    evidence = replace(answer.evidence, taken=taken, complete=complete)
    after = after_answer(before, evidence, answer.answered_at, rules)
    if complete:
        # A question asked before the deadline knows nothing of money that came until then.
        payable = rules.cancel_expired and _still_payable(after) and not steps.is_overdue(after, answer.answered_at)
        over = answer.asked_at >= before.expires_at and not payable
        return steps.expired(after, answer.answered_at, rules) if over else after
    if answer.is_silence:
        after = steps.unanswered(after, reason, answer.answered_at)
    return steps.given_up(after, answer.answered_at, rules)


def _still_payable(session: Session) -> bool:
    return session.status is Status.PENDING and any(a.state is InvoiceState.OPEN for a in session.asked_about)


async def _expired_without_invoices(desk: Desk, session: Session) -> Session:
    """Past its deadline and unpaid: no invoice may be paid any more, and then it expires. Silence leaves it pending."""
    for attempt in session.asked_about:
        if session.status is not Status.PENDING or attempt.state is not InvoiceState.OPEN:
            continue
        try:
            outcome = await desk.provider.cancel_invoice(str(attempt.id))
        except ProviderError:
            return session
        session = await desk.step(session.id, _superseded_step(desk, attempt, outcome))

    def expire(stored: Session) -> Session:
        return stored if _still_payable(stored) else steps.expired(stored, desk.clock(), desk.rules)

    return session if waiting(session.hints) else await desk.step(session.id, expire)


async def cancel_superseded(desk: Desk, session: Session) -> Session:
    """Cancel at QPay each open invoice whose QR must not be paid any more; what QPay does not answer stays open."""
    for attempt in steps.superseded(session):
        try:
            outcome = await desk.provider.cancel_invoice(str(attempt.id))
        except ProviderError:
            continue
        session = await desk.step(session.id, _superseded_step(desk, attempt, outcome))
    return session


def _superseded_step(desk: Desk, attempt: Invoice, outcome: Cancelling) -> Callable[[Session], Session]:
    if outcome is Cancelling.PAID:
        return lambda session: steps.unseen_money(session, str(attempt.id), desk.clock())
    return lambda session: steps.invoice_cancelled(session, attempt.number, desk.clock())


# --- the questions ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    answers: list[InvoiceAnswer] = field(default_factory=list)
    looked_up: list[SeenPayment] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    adopted: list[tuple[int, str]] = field(default_factory=list)
    complete: bool = True

    def seen(self) -> dict[str, SeenPayment]:
        return {p.id: p for answer in self.answers for p in answer.payments}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What one look brought, about which invoices, and when; what it showed first is first seen at `answered_at`."""

    evidence: Evidence
    asked_ids: frozenset[str]
    asked_at: Micros
    answered_at: Micros

    @property
    def is_silence(self) -> bool:
        found = self.evidence
        return not (found.complete or found.answers or found.looked_up or found.foreign)

    def is_whole_of(self, session: Session) -> bool:
        """Whether QPay has said all: of an invoice that came to be since it was asked, it has said nothing."""
        return self.evidence.complete and {attempt.id for attempt in session.asked_about} <= self.asked_ids


async def _answer(desk: Desk, session: Session, payment_id: str) -> _Answer:
    """All that one look may ask: each invoice, then the hinted payments no invoice showed, then dates of late money."""
    found, asked_at = _Found(), desk.clock()
    await asyncio.gather(*(_check(desk, found, str(attempt.id)) for attempt in session.asked_about))
    told = {"", *found.seen(), *(attempt.id for attempt in session.asked_about)}
    unseen = [hint for hint in waiting(session.hints) if hint.payment_id not in told]
    for hint in unseen[-MOST_LOOKUPS:]:  # the newest: the others have had their first look
        await _look_up(desk, session, found, hint)
    further = (p for p in session.payments if p.id == payment_id)
    by_themselves = {p.id: p for p in (*further, *told_by_themselves(session))}
    for payment in list(by_themselves.values())[:MOST_LOOKUPS]:
        await _by_itself(desk, found, payment)
    answered_at = desk.clock()
    if answered_at > session.expires_at:
        await _dates(desk, session, found)
    evidence = Evidence(
        answers=tuple(found.answers),
        looked_up=tuple(found.looked_up),
        foreign=frozenset(found.foreign),
        adopted=tuple(found.adopted),
        complete=found.complete,
    )
    asked_ids = frozenset(answer.invoice_id for answer in found.answers)
    return _Answer(evidence=evidence, asked_ids=asked_ids, asked_at=asked_at, answered_at=answered_at)


async def _check(desk: Desk, found: _Found, invoice_id: str) -> None:
    try:
        answer = await desk.provider.check(invoice_id)
    except ProviderRefused as refusal:
        if refusal.key != "INVOICE_NOTFOUND":
            found.complete = False
            return
        answer = InvoiceAnswer(invoice_id=invoice_id, payments=())
    except ProviderError:
        found.complete = False
        return
    found.answers.append(answer)
    found.complete = found.complete and answer.complete


async def _look_up(desk: Desk, session: Session, found: _Found, hint: Hint) -> None:
    """Find a hinted payment by its id, and the attempt it was made on."""
    try:
        payment = await desk.provider.get_payment(hint.payment_id)
        if payment is None or not payment.invoice_id:
            return
        ours = {attempt.id for attempt in session.asked_about}
        if payment.invoice_id in ours:
            found.looked_up.append(payment)
            return
        await _adopt(desk, session, found, payment)
    except ProviderError as error:
        found.complete = found.complete and _is_answer(error)


def _is_answer(error: ProviderError) -> bool:
    """A refusal is one: QPay has nothing to show under this id. Unless it is us whom it refuses."""
    return isinstance(error, ProviderRefused) and error.provider_status not in (401, 403)


async def _by_itself(desk: Desk, found: _Found, payment: Payment) -> None:
    """What became of a refund the payment itself tells, for `check` need not show it any more; or an assigned one."""
    try:
        seen = await desk.provider.get_payment(payment.id)
    except ProviderError as error:
        found.complete = found.complete and _is_answer(error)
        return
    if seen is not None:
        found.looked_up.append(replace(seen, invoice_id=payment.invoice_id))


async def _adopt(desk: Desk, session: Session, found: _Found, payment: SeenPayment) -> None:
    """The payment is on an invoice we do not know: ours if QPay shows it under the number of one of our attempts."""
    nameless = {a.sender_invoice_no: a.number for a in session.attempts if a.id is None}
    if nameless:
        invoice = await desk.provider.get_invoice(payment.invoice_id)
        if invoice is None:
            return  # money on an invoice QPay does not find contradicts itself, and proves nothing
        number = nameless.get(invoice.sender_invoice_no)
        if number is not None:
            found.adopted.append((number, payment.invoice_id))
            found.looked_up.append(payment)
            await _check(desk, found, payment.invoice_id)
            return
    found.foreign.add(payment.id)


async def _dates(desk: Desk, session: Session, found: _Found) -> None:
    """Past the deadline a payment's date decides whether it is late; `check` does not tell it, the payment does."""
    known = {p.id for p in session.payments if p.received} | {p.id for p in found.looked_up}
    new = [p for p in found.seen().values() if p.status == "PAID" and p.id not in known and p.paid_at is None]
    for payment in new[:MOST_LOOKUPS]:
        try:
            dated = await desk.provider.get_payment(payment.id)
        except ProviderError:
            return
        if dated is not None and dated.paid_at is not None:
            found.looked_up.append(replace(payment, paid_at=dated.paid_at))
