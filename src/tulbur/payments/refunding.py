"""Money that goes back, and what a named person decides: committed first, then done, then read from QPay."""

from __future__ import annotations

from typing import Any, Final

from tulbur.core import moving, refunding, reviewing
from tulbur.core.custody import Custody
from tulbur.core.money import Mongo
from tulbur.core.schedule import LADDER_SECONDS
from tulbur.core.session import SECOND, Reason, Session
from tulbur.core.settling import SeenPayment
from tulbur.errors import Conflict, NotFound, ProviderRefused, ProviderUnavailable
from tulbur.payments.desk import MOST_COMMITS, Desk
from tulbur.payments.settling import cancel_superseded, settle
from tulbur.ports import Committed, GivingBack, PaymentTaken

LONGEST_REFERENCE: Final = 255


async def refund(
    desk: Desk,
    session_id: str,
    payment_id: str,
    *,
    amount: Mongo | None = None,
    reference: str = "",
    note: str = "",
    by: str,
) -> Session:
    """Give a payment back: through QPay where it can, else as a task that is closed with a `reference`.

    What QPay answers is not the end of it: the session is looked at until QPay shows the payment as REFUNDED.

    Raises:
        NotFound, Invalid, Conflict: as the steps say.
        ProviderUnavailable: QPay was asked, and what it did is not known yet; it is looked at.
        ProviderRefused: QPay will not; it is a person's task now.
    """
    if reference:
        return await desk.step(
            session_id,
            lambda s: refunding.refund_closed(
                s, payment_id, amount, by=by, reference=reference, note=note, now=desk.clock()
            ),
        )
    session = await desk.step(
        session_id,
        lambda s: refunding.refund_requested(s, payment_id, amount, by=by, note=note, now=desk.clock()),
    )
    if not any(p.id == payment_id for p in refunding.refunds_awaited(session)):
        return session
    return await _given_back(desk, session, payment_id, note)


async def _given_back(desk: Desk, session: Session, payment_id: str, note: str) -> Session:
    try:
        answer = await desk.provider.refund_payment(payment_id, note)
    except ProviderRefused as refusal:
        await _refused(desk, session.id, payment_id, refusal.key)
        raise
    if answer is not GivingBack.ACCEPTED:
        return await _refused(desk, session.id, payment_id, answer.value)
    return (await settle(desk, session.id, Reason.OPERATOR)).session


async def _refused(desk: Desk, session_id: str, payment_id: str, key: str) -> Session:
    return await desk.step(session_id, lambda s: refunding.refund_refused(s, payment_id, key, desk.clock()))


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
        Conflict: another session has it.
        ProviderUnavailable: QPay did not answer.
    """
    holder = await desk.store.by_payment(payment_id)
    if holder is not None:
        if holder.id == session_id:
            return holder
        raise Conflict(f"session {holder.id} has this payment")
    seen = await desk.provider.get_payment(payment_id)
    if seen is None:
        raise NotFound("QPay knows no such payment")
    return await _assigned(desk, seen, session_id, note, by)


async def _assigned(desk: Desk, seen: SeenPayment, session_id: str, note: str, by: str) -> Session:
    for _ in range(MOST_COMMITS):
        before = await desk.stored(session_id)
        after = reviewing.assigned(before, seen, by=by, note=note, now=desk.clock(), rules=desk.rules)
        result = await desk.commit(before, after)
        if result is Committed.WON:
            return await cancel_superseded(desk, after.committed())
        if isinstance(result, PaymentTaken):
            raise Conflict("another session has this payment")
    raise ProviderUnavailable("the session is being changed too often; try again")


async def close(desk: Desk, payment_id: str, *, reference: str, note: str = "", by: str) -> Session | None:
    """A person is done with a payment: paid back with this reference, or, without a session, settled elsewhere.

    Returns the session it belongs to, None where it has none.

    Raises:
        NotFound: nobody knows this payment.
        Conflict: it is closed already, or still held: somebody has to decide first.
    """
    session = await desk.store.by_payment(payment_id)
    if session is not None:
        held = session.payment(payment_id)
        if held is not None and held.held:
            raise Conflict("this money is held; review the session first")
        return await refund(desk, session.id, payment_id, reference=reference, note=note, by=by)
    said: dict[str, Any] = {"reference": reference, "note": note, "by": by}
    if await desk.store.unmatched_payment(payment_id) is None:
        raise NotFound("there is no such payment")
    if not await desk.store.close_unmatched(payment_id, now=desk.clock(), note=said):
        raise Conflict("this payment is closed already")
    return None
