"""The end of a run: what must have come about by itself, what in the end, and the books of the whole time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from proving.callbacks import bills, deliver
from proving.oracle import Broken
from proving.payers import Checkout
from proving.uses import Deed
from proving.world import START, Gone, World
from tulbur.core import steps
from tulbur.core.certificate import Certificate
from tulbur.core.session import SECOND, ExceptionName, HintState, Reason, Session, Status
from tulbur.errors import TulburError
from tulbur.payments.certifying import prove

MARGIN_SECONDS: Final = 400
"""Between money that shows and the end of a session: slow answers, a slow store, and two clocks minutes apart."""


# --- what must have come about by itself ----------------------------------------------------------------------------


def judge_alone(w: World, c: Checkout) -> None:
    """Money that showed in time, and money whose callback was answered SUCCESS, has its end without anybody's help."""
    session = w.oracle.stored(str(c.session_id))
    if is_contested(w, session):
        return
    known = {p.id for p in session.payments if p.received}
    truth = _received(w, c)
    for session_id, payment_id in w.oracle.promised:
        if session_id == session.id and payment_id in truth and not _is_named(w, session, payment_id):
            assert payment_id in known, "law 5: SUCCESS was promised, and the money is not known"
    if any(bill.id in w.sight.lied for bill in bills(w, c)):
        return
    for payment_id in truth:
        if _in_time(w, session, payment_id):
            assert payment_id in known, "law 2: money that QPay showed in time was not found"


def judge_swept(w: World, c: Checkout) -> None:
    """A day later the list has shown what no callback did, and nobody helped."""
    session = w.oracle.stored(str(c.session_id))
    known = {p.id for p in session.payments if p.received}
    for payment_id in _received(w, c):
        if payment_id in w.visible() and payment_id not in w.sight.elsewhere:
            found = payment_id in known or _is_unmatched(w, payment_id)
            assert found, "law 2: money whose callback was lost is found within a day"


def _is_named(w: World, session: Session, payment_id: str) -> bool:
    """Whether a person can see that this payment was named and never shown: as unconfirmed, or as unmatched."""
    named = any(h.payment_id == payment_id and h.state is HintState.UNCONFIRMED for h in session.hints)
    return named or _is_unmatched(w, payment_id)


def _is_unmatched(w: World, payment_id: str) -> bool:
    row = w.data.payments.get(payment_id)
    return row is not None and row["session_id"] is None


def _in_time(w: World, session: Session, payment_id: str) -> bool:
    """Whether QPay showed it well before the session was closed, on an invoice the session had by then."""
    closed_at = w.oracle.closed_at.get(session.id)
    if closed_at is None or session.cancelled_at is not None:
        return False
    payment = next(p for bill in w.qpay.bills.values() for p in bill.payments if p.id == payment_id)
    known = any(attempt.id == payment.invoice_id for attempt in session.attempts)
    return known and w.sight.from_[payment_id] <= closed_at - MARGIN_SECONDS * SECOND


def is_contested(w: World, session: Session) -> bool:
    """Whether QPay has shown a payment to two sessions: whoever saw it first has it, and the other is told by name."""
    own = {p.id for bill in w.qpay.bills.values() for p in bill.payments if _is_of(session, bill.id)}
    own |= {p.id for p in session.payments}
    return ExceptionName.CONTESTED in session.exceptions or bool(own & w.sight.elsewhere)


def _is_of(session: Session, invoice_id: str) -> bool:
    return any(attempt.id == invoice_id for attempt in session.attempts)


# --- what must have come about in the end ----------------------------------------------------------------------------


async def help_out(w: World, checkouts: Sequence[Checkout]) -> None:
    """What waits for a person or the daily list of payments: each is looked at once, and lost callbacks come."""
    shown_at = max((*w.sight.from_.values(), *w.sight.refunds_from.values()), default=0)
    await asyncio.sleep(max(shown_at - w.clock(), 0) / SECOND)
    for c in checkouts:
        session = w.oracle.stored(str(c.session_id))
        known = {p.id: p.status for p in session.payments}
        missing = [id_ for id_, status in _received(w, c).items() if known.get(id_) != status]
        for payment_id in missing:
            assert await deliver(w, c, payment_id), "law 10: a callback that nothing hinders is answered"
        if missing:
            await _looked_at(w, session.id)


async def _looked_at(w: World, session_id: str) -> None:
    await asyncio.sleep(60)
    try:
        await w.ask(lambda payments: payments.check(session_id, Reason.OPERATOR))
    except (Gone, TulburError) as error:
        raise Broken(f"law 2: a person cannot look at it: {error!r}") from error


def judge_ended(w: World, c: Checkout) -> None:
    """Every tugrik QPay has is known, and enough of it is an order."""
    session = w.oracle.stored(str(c.session_id))
    if is_contested(w, session):
        return
    # What came after a flood of made-up ids is named as unmatched, where no invoice of ours leads to it.
    truth = {id_: status for id_, status in _received(w, c).items() if not _is_unmatched(w, id_)}
    own = {p.id for bill in bills(w, c) for p in bill.payments}  # which a person may have had to give to it
    known = {p.id: p.status for p in session.payments if p.received and (p.id in own or not p.assigned_by)}
    assert known == truth, f"law 9: every tugrik is accounted for: QPay has {truth}, we know {known}"
    waiting = [hint for hint in session.hints if hint.state is HintState.WAITING]
    assert not waiting, "law 2: a hint still waits"
    _judge_names(w, session)
    _judge_covered(w, session)


def _judge_covered(w: World, session: Session) -> None:
    """What was paid in full, and nobody has decided to give back, is ordered, or waits for a person who can see it."""
    counting = [p for p in session.payments if p.status == "PAID" and p.currency == session.currency]
    if session.status is Status.PAID or sum(p.counts for p in counting) < session.amount:
        return
    in_time = sum(p.counts for p in counting if not steps.is_late(session, p))
    late = session.status is Status.CANCELLED or in_time < session.amount
    assert session.blanked_at or (w.rules.review_late and late), "law 2: paid means ordered"
    assert any(p.held or p.refund_due for p in counting), "law 2: or a person can see it"


def _judge_names(w: World, session: Session) -> None:
    """Whatever money and session disagree about has its name."""
    names = session.exceptions
    if any(p.refund_due or p.held for p in session.payments):
        assert names, "law 2: money that is no order has a name"
    if session.sum("received") - session.sum("refunded") > session.amount and session.status is Status.PAID:
        named = names & {ExceptionName.OVERPAID, ExceptionName.PAID_TWICE, ExceptionName.REFUNDED}
        assert named, "law 2: more money than asked has a name"
    if session.status is not Status.PAID:
        return
    assert (session.cancelled_at is None) or ExceptionName.AFTER_CANCEL in names, "law 2: paid after cancelling"
    dates = {p.id: p.paid_at or 0 for bill in w.qpay.bills.values() for p in bill.payments}
    # Later, other money may have taken the place of what was given back.
    paid_at = max((dates[id_] for id_ in w.oracle.paid_with[session.id]), default=0)
    if paid_at > session.expires_at + 2 * MARGIN_SECONDS * SECOND:
        assert ExceptionName.LATE in names, "law 2: late money is called late"


def _received(w: World, c: Checkout) -> dict[str, str]:
    """What QPay has on its invoices, but for what a person has given to another session."""
    return {p.id: p.status for bill in bills(w, c) for p in bill.payments if not _is_given_away(w, c, p.id)}


def _is_given_away(w: World, c: Checkout, payment_id: str) -> bool:
    row = w.data.payments.get(payment_id)
    if row is None or row["session_id"] in (None, c.session_id):
        return False
    payment = w.oracle.stored(row["session_id"]).payment(payment_id)
    return payment is not None and bool(payment.assigned_by)


# --- the books -------------------------------------------------------------------------------------------------------


async def judge_books(w: World) -> None:
    """The certificate of the whole time says proven, and is: its sums are QPay's, and those of the sessions."""
    start, end = START - 3600 * SECOND, w.clock() + SECOND
    certificate = await w.ask(lambda payments: prove(payments.desk, start, end))
    with w.oracle.judging("certificate"):
        assert not certificate.trouble, f"law 9: nothing hinders a certificate: {certificate.trouble}"
        # What QPay has shown to another session than its own is that session's, whose invoice tells no more of it.
        differences = [d for d in certificate.differences if d.payment_id not in w.sight.elsewhere]
        assert not differences, f"law 9: every tugrik is accounted for: {differences[0]}"
        _judge_sums(w, certificate)
    if certificate.proven:
        w.oracle.did(Deed.BALANCED)


def _judge_sums(w: World, certificate: Certificate) -> None:
    listed: Counter[str] = Counter()
    for seen in w.visible().values():
        listed[seen.currency] += seen.amount
    assert {name: sums.listed for name, sums in certificate.sums.items()} == listed, "law 9: it lists what QPay has"
    ordered: Counter[str] = Counter()
    for session_id in w.data.sessions:
        for p in w.oracle.stored(session_id).payments:
            ordered[p.currency] += p.ordered
            w.oracle.books.judge(p)
            assert p.refund_due + p.held == 0, "law 2: the list of work is empty, and so nothing is held or due"
            assert p.refund is None, "law 2: the list of work is empty, and so no refund waits"
    assert {name: sums.ordered for name, sums in certificate.sums.items() if sums.ordered} == +ordered, "law 9: orders"
