"""The ways in which money and a session disagree, named by the facts."""

from __future__ import annotations

from typing import Final

from tulbur.core.custody import Custody
from tulbur.core.refund import RefundState
from tulbur.core.session import ExceptionName, HintState, Session, Status

_BY_THE_FACTS: Final = frozenset(
    {
        ExceptionName.UNDERPAID,
        ExceptionName.OVERPAID,
        ExceptionName.PAID_TWICE,
        ExceptionName.UNCONFIRMED,
        ExceptionName.REFUND_UNCONFIRMED,
    }
)
"""The exceptions that end when the facts do; the others tell what happened once and for all."""


def named(session: Session, *, complete: bool = False, contested: bool = False) -> frozenset[ExceptionName]:
    """The named disagreements, by the facts as they are and by what happened.

    `complete`: QPay has just answered in full. `contested`: a payment QPay shows belongs to another session.
    """
    names = set(session.exceptions - _BY_THE_FACTS)
    received = [p for p in session.payments if p.received]
    own = [p for p in received if p.currency == session.currency and p.refunded < p.amount]
    total = sum(p.amount - p.refunded for p in own)
    handed_over = session.custody is Custody.HANDED_OVER
    covered = sum(p.counts for p in own if p.status == "PAID") >= session.amount
    short = session.status is not Status.PAID and total > 0 and not covered and not handed_over
    # While it is open the rest may be on an invoice that was not answered; once closed, nobody may come to name it.
    closed = session.status is not Status.PENDING
    if short and (complete or closed or ExceptionName.UNDERPAID in session.exceptions):
        names.add(ExceptionName.UNDERPAID)
    due = any(p.refund_due for p in own)
    if session.status is Status.PAID and (total > session.amount or due):
        twice = len(own) > 1 and any(p.status == "PAID" and p.amount - p.refunded >= session.amount for p in own)
        # What is still due back keeps its name, though the money it was too much beside went back first.
        twice = twice or (total <= session.amount and ExceptionName.PAID_TWICE in session.exceptions)
        names.add(ExceptionName.PAID_TWICE if twice else ExceptionName.OVERPAID)
    if handed_over and session.status is not Status.PAID and received:
        names.add(ExceptionName.HANDED_OVER)
    if any(p.currency != session.currency for p in received):
        names.add(ExceptionName.WRONG_CURRENCY)
    if any(p.status == "REFUNDED" for p in received):
        names.add(ExceptionName.REFUNDED)
    if any(h.state is HintState.UNCONFIRMED and h.payment_id for h in session.hints):
        names.add(ExceptionName.UNCONFIRMED)
    if any(r.state is RefundState.UNCONFIRMED for p in received for r in p.refunds):
        names.add(ExceptionName.REFUND_UNCONFIRMED)
    if contested:
        names.add(ExceptionName.CONTESTED)
    return frozenset(names)
