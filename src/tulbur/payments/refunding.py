"""Money that goes back, and what a named person decides: committed first, then done, then read from QPay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tulbur.core import moving, refunding, reviewing
from tulbur.core.custody import Custody
from tulbur.core.money import Mongo
from tulbur.core.refund import RefundState
from tulbur.core.schedule import LADDER_SECONDS
from tulbur.core.session import SECOND, Reason, Session, Status
from tulbur.core.settling import SeenPayment, resplit
from tulbur.errors import Conflict, NotFound, ProviderRefused, ProviderUnavailable
from tulbur.payments.desk import MOST_COMMITS, Desk
from tulbur.payments.settling import cancel_superseded, settle
from tulbur.ports import Committed, GivingBack, PaymentTaken, Unmatched

NOT_SAID: Final = (
    "QPay did not say whether it gave the payment back; it was asked, and is being looked at: do not ask again"
)
_CLOSED: Final = "this payment is closed: somebody has dealt with its money already"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a person says who has paid money back."""

    reference: str
    note: str
    by: str
    key: str = ""


async def refund(
    desk: Desk,
    session_id: str,
    payment_id: str,
    *,
    amount: Mongo | None = None,
    reference: str = "",
    note: str = "",
    by: str,
    key: str = "",
) -> Session:
    """Give a payment back: through QPay where it can, else as a task that is closed with a `reference`.

    What QPay answers is not the end of it: the session is looked at until QPay shows the payment as REFUNDED. A request
    whose `key` is known already only answers what has become of it.

    Raises:
        NotFound, Invalid, Conflict: as the steps say.
        ProviderUnavailable: QPay was asked, and what it did is not known yet; it is looked at.
        ProviderRefused: QPay will not; it is a person's task now.
    """
    if reference:
        said = _Said(reference=reference, note=note, by=by, key=key)
        return await _paid_back(desk, session_id, payment_id, amount, said)
    is_new = False

    def request(stored: Session) -> Session:
        nonlocal is_new
        now = desk.clock()
        after = refunding.refund_requested(stored, payment_id, amount, by=by, note=note, now=now, key=key)
        is_new = after is not stored
        return after

    session = await desk.step(session_id, request)
    if not is_new or not any(p.id == payment_id for p in refunding.refunds_awaited(session)):
        return session
    return await _given_back(desk, session, payment_id, note, by)


async def _paid_back(
    desk: Desk,
    session_id: str,
    payment_id: str,
    amount: Mongo | None,
    said: _Said,
    *,
    due_only: bool = False,
) -> Session:
    known = (await desk.stored(session_id)).payment(payment_id)
    if known is not None and known.refund is not None and known.refund.state is RefundState.UNCONFIRMED:
        # QPay may have given it back since it was last asked: then there is nothing left to pay.
        await settle(desk, session_id, Reason.OPERATOR, by=said.by)

    def close_(stored: Session) -> Session:
        now = desk.clock()
        after = refunding.refund_closed(
            stored,
            payment_id,
            amount,
            by=said.by,
            reference=said.reference,
            note=said.note,
            now=now,
            key=said.key,
            due_only=due_only,
        )
        # Where the payer paid twice and the money of the orders went back, the other money pays for them now.
        return after if after is stored else resplit(stored, after, now, desk.rules)

    return await desk.step(session_id, close_)


async def _given_back(desk: Desk, session: Session, payment_id: str, note: str, by: str) -> Session:
    try:
        answer = await desk.provider.refund_payment(payment_id, note)
    except ProviderRefused as refusal:
        after = await _refused(desk, session.id, payment_id, refusal.key, by)
        if _is_given_back(after, payment_id):
            return after
        refusal.session_id = session.id
        raise
    except ProviderUnavailable:
        raise ProviderUnavailable(NOT_SAID, session_id=session.id) from None
    if answer is not GivingBack.ACCEPTED:
        return await _refused(desk, session.id, payment_id, answer.value, by)
    return (await settle(desk, session.id, Reason.OPERATOR, by=by)).session


async def _refused(desk: Desk, session_id: str, payment_id: str, key: str, by: str) -> Session:
    """QPay will not: also where it did so before, which the payment tells. Only else it is a person's task.

    Raises:
        ProviderUnavailable: nobody can tell now; the looks behind the request will.
    """
    looked = await settle(desk, session_id, Reason.OPERATOR, by=by)
    if not looked.answered:
        raise ProviderUnavailable(NOT_SAID, session_id=session_id)
    return await desk.step(session_id, lambda s: refunding.refund_refused(s, payment_id, key, desk.clock()))


def _is_given_back(session: Session, payment_id: str) -> bool:
    payment = session.payment(payment_id)
    return payment is not None and payment.status == "REFUNDED"


async def review(desk: Desk, session_id: str, decision: str, *, note: str = "", by: str) -> Session:
    """What a person decided about a session: "accept" makes the orders, "refund" gives the money back.

    Raises:
        NotFound, Conflict: as the steps say.
    """
    session = await desk.stored(session_id)
    if session.custody is Custody.FOLLOWED:
        if decision != "accept":
            raise Conflict("the session is in the hands of the old shop; accept it, then cancel it or refund its money")
        look_at = desk.clock() + LADDER_SECONDS[0] * SECOND
        return await desk.step(
            session_id, lambda s: moving.reviewed(s, desk.clock(), by=by, note=note, look_at=look_at)
        )
    step = reviewing.accepted if decision == "accept" else reviewing.declined
    after = await desk.step(session_id, lambda s: step(s, by=by, note=note, now=desk.clock()))
    return await cancel_superseded(desk, after)


async def assign(desk: Desk, payment_id: str, session_id: str, *, note: str = "", by: str) -> Session:
    """Give a payment that has no session to one; QPay is asked what the payment is.

    Raises:
        NotFound: QPay knows no such payment, or there is no such session.
        Conflict: another session has it, or made the invoice it was paid on; or it is closed.
        ProviderUnavailable: QPay did not answer.
    """
    holder = await desk.store.by_payment(payment_id)
    if holder is not None:
        if holder.id == session_id:
            return holder
        raise Conflict(f"session {holder.id} has this payment")
    await desk.stored(session_id)
    known = await desk.store.unmatched_payment(payment_id)
    if known is not None and known.closed_at is not None:
        raise Conflict(_CLOSED)
    desk.sink.asked(Reason.OPERATOR)
    seen = await desk.provider.get_payment(payment_id)
    if seen is None:
        raise NotFound("QPay knows no such payment")
    maker = await desk.store.by_invoice(seen.invoice_id) if seen.invoice_id else None
    if maker is not None and maker.id != session_id:
        raise Conflict(f"it was paid on an invoice of session {maker.id}; check that session")
    return await _assigned(desk, seen, session_id, note, by)


async def _assigned(desk: Desk, seen: SeenPayment, session_id: str, note: str, by: str) -> Session:
    for _ in range(MOST_COMMITS):
        before = await desk.stored(session_id)
        after = reviewing.assigned(before, seen, by=by, note=note, now=desk.clock(), rules=desk.rules)
        result = await desk.commit(before, after)
        if result is Committed.WON:
            return await cancel_superseded(desk, after.committed())
        if isinstance(result, PaymentTaken):
            closed = await desk.store.unmatched_payment(seen.id)
            raise Conflict(_CLOSED if closed else "another session has this payment")
    raise ProviderUnavailable("the session is being changed too often; try again")


async def close(desk: Desk, payment_id: str, *, reference: str, note: str = "", by: str) -> Session | Unmatched:
    """A person is done with a payment: paid back with this reference, or, without a session, settled elsewhere.

    Returns the session it belongs to, or the payment where it has none. The same reference again changes nothing.

    Raises:
        NotFound: nobody knows this payment.
        Conflict: it is closed already, or still held: somebody has to decide first; or nothing of it is due.
    """
    session = await desk.store.by_payment(payment_id)
    if session is not None:
        _refuse_undecided(session, payment_id)
        person = _Said(reference=reference, note=note, by=by)
        return await _paid_back(desk, session.id, payment_id, None, person, due_only=True)
    if await desk.store.unmatched_payment(payment_id) is None:
        raise NotFound("there is no such payment")
    said: dict[str, str] = {"reference": reference, "note": note, "by": by}
    await desk.store.close_unmatched(payment_id, now=desk.clock(), note=said)
    closed = await desk.store.unmatched_payment(payment_id)
    if closed is None:
        raise Conflict("a session has this payment by now; look at it again")
    if closed.closed_at is None or closed.note.get("reference") != reference:
        raise Conflict("this payment is closed already, with another reference")
    return closed


def _refuse_undecided(session: Session, payment_id: str) -> None:
    payment = session.payment(payment_id)
    if payment is None or not payment.held:
        return
    if session.status is Status.PENDING:
        raise Conflict(f"session {session.id} can still be paid; cancel it first, then this money is due back")
    raise Conflict(f"this money is held; somebody has to review session {session.id} first")
