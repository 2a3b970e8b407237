"""Whose a payment is: of one of our sessions, of one that is gone, or of somebody else's invoice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tulbur.core import steps
from tulbur.core.custody import Custody, is_adoptable
from tulbur.core.schedule import waiting
from tulbur.core.session import Reason, Session, rank
from tulbur.core.settling import SeenPayment
from tulbur.core.steps import InvoiceMade
from tulbur.payments.desk import Desk
from tulbur.payments.settling import settle


class Whose(Enum):
    """`GONE`: the invoice is ours, the session is not stored. `UNCLEAR`: QPay does not tell the invoice.

    `THEIRS`: of a session that is only followed; QPay called the old shop, which makes the orders.
    """

    OURS = "ours"
    THEIRS = "theirs"
    GONE = "gone"
    FOREIGN = "foreign"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Belonging:
    """`sender_invoice_no` is given where only QPay's invoice led to the session."""

    whose: Whose
    payment: SeenPayment
    session: Session | None = None
    sender_invoice_no: str = ""


def is_theirs(session: Session) -> bool:
    """Whether its money is foreign to us yet: it is followed, and no callback has come for it that makes it ours."""
    if session.custody is not Custody.FOLLOWED:
        return False
    return not (is_adoptable(session.custody, session.claim) and waiting(session.hints))


def of_session(payment: SeenPayment, session: Session, sender_invoice_no: str = "") -> Belonging:
    return Belonging(Whose.THEIRS if is_theirs(session) else Whose.OURS, payment, session, sender_invoice_no)


async def belonging(desk: Desk, payment: SeenPayment) -> Belonging:
    """Find the session of a payment by its invoice; QPay is asked about invoices that are not known here.

    Raises:
        ProviderError: QPay did not answer, so nobody knows.
    """
    if not payment.invoice_id:
        payment = await desk.provider.get_payment(payment.id) or payment
    if not payment.invoice_id:
        return Belonging(Whose.UNCLEAR, payment)
    session = await desk.store.by_invoice(payment.invoice_id)
    if session is not None:
        return of_session(payment, session)
    invoice = await desk.provider.get_invoice(payment.invoice_id)
    if invoice is None:
        return Belonging(Whose.UNCLEAR, payment)
    number = invoice.sender_invoice_no
    if not desk.links.is_ours(number):
        return Belonging(Whose.FOREIGN, payment)
    session = await desk.store.by_sender(number)
    if session is None:
        return Belonging(Whose.GONE, payment, sender_invoice_no=number)
    return of_session(payment, session, number)


async def bring(desk: Desk, found: Belonging, session_id: str) -> bool:
    """Tell a session of its payment and let it settle; whether the payment has a session now that knows it so far.

    The hint is durable before QPay is asked, so a kill or a refused question only means a later look.
    """

    def told(session: Session) -> Session:
        now = desk.clock()
        for attempt in session.attempts:
            if attempt.id is None and attempt.sender_invoice_no == found.sender_invoice_no:
                # QPay's own invoice carries the number of this attempt: its answer was lost, this is its id.
                session = steps.with_invoice(session, attempt.number, InvoiceMade(id=found.payment.invoice_id), now)
        full = steps.hints_full(session, found.payment.id)
        return steps.hinted(session, "" if full else found.payment.id, now)

    await desk.step(session_id, told)
    await settle(desk, session_id, Reason.SWEEP, found.payment.id)
    holder = await desk.store.by_payment(found.payment.id)
    known = holder.payment(found.payment.id) if holder else None
    return known is not None and rank(known.status) >= rank(found.payment.status)
