"""The steps of money that goes back: decided, requested of QPay or of a person, seen or closed with a reference.

A refund is committed before anybody is asked to do it, and QPay's request is never repeated by itself: what became of
it is read from the payment. One refund of a payment is open at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tulbur.core.custody import Custody
from tulbur.core.disagreeing import named
from tulbur.core.money import Mongo, format_tugrik
from tulbur.core.refund import Refund, RefundState, RefundWay
from tulbur.core.schedule import climbed, first_rung
from tulbur.core.session import SECOND, Look, Micros, Payment, Reason, Session, Status
from tulbur.core.steps import with_exceptions
from tulbur.core.values import replace
from tulbur.errors import Conflict, IdempotencyMismatch, Invalid, NotFound

YOUNG_SECONDS: Final = 3600
"""A request of one person keeps others from paying the same money back for so long."""

MOST_REFUNDS: Final = 50
"""Refunds of one payment that are kept."""

MOST_KEYS: Final = 20
"""Requests that are remembered with one refund."""

STILL_PAYABLE: Final = "the payer can still pay; cancel the session first, then what came is due back"

MAY_HAVE_TO_PAY: Final = "money of the orders is being given back, and this may have to pay for them"


def refund_requested(
    session: Session, payment_id: str, amount: Mongo | None, *, by: str, note: str, now: Micros, key: str = ""
) -> Session:
    """Somebody wants a payment given back: all that is due of it, or all of it, or `amount`.

    QPay gives back the whole of a card payment; anything else is a task for a person, who names a reference afterwards.

    A request whose `key` is known changes nothing.

    Raises:
        NotFound: the session has no such payment.
        Invalid: more than there is, or another request had this key.
        Conflict: another request is under way, the session is not ours, or nobody can tell how much is meant.
    """
    if _is_repeated(session, key):
        return session
    p = _ours(session, payment_id)
    wanted = _amount(session, p, amount)
    _refuse_while_young(p, by, now)
    whole = wanted == p.amount and p.method == "CARD" and p.status == "PAID"
    way = RefundWay.QPAY if whole else RefundWay.PERSON
    refund = Refund(amount=wanted, way=way, by=by, at=now, note=note, keys=_keys(key))
    after = _with_refund(session, p, refund)
    after = with_exceptions(after, named(after), now)
    if whole:
        after = replace(after, looks=(*_others(after), replace(first_rung(now), reason=Reason.OPERATOR)))
    return after.with_news(
        "refund.requested",
        now,
        payment_id=p.id,
        amount=format_tugrik(wanted),
        currency=p.currency,
        way=refund.way.value,
        by=by,
        note=note,
    )


def refund_refused(session: Session, payment_id: str, key: str, now: Micros) -> Session:
    """QPay will not give it back: a bank payment, or another reason. It is a person's task now."""
    p = session.payment(payment_id)
    refund = p.refund if p else None
    if p is None or refund is None or refund.way is not RefundWay.QPAY:
        return session
    after = _with_refund(session, p, replace(refund, way=RefundWay.PERSON, state=RefundState.REQUESTED))
    after = replace(after, looks=_others(after) if not _awaited(after) else after.looks)
    return after.with_news("refund.refused", now, payment_id=payment_id, key=key)


def refund_closed(
    session: Session,
    payment_id: str,
    amount: Mongo | None,
    *,
    by: str,
    reference: str,
    note: str,
    now: Micros,
    key: str = "",
    due_only: bool = False,
) -> Session:
    """A person has paid money back, and names the reference. The same reference again changes nothing.

    Where it was a part of what was to go back, the rest waits for whoever does it. `due_only`: money of which nothing
    is due, and no refund is open, is not meant.

    Raises:
        NotFound, Invalid: as of a request.
        Conflict: QPay, or somebody else, is at it; or as of a request.
    """
    if _is_repeated(session, key):
        return session
    known = session.payment(payment_id)
    if known is not None and any(refund.reference == reference for refund in known.refunds):
        return session
    p = _ours(session, payment_id)
    asked = p.refund
    if asked is not None and asked.way is RefundWay.QPAY and asked.state is RefundState.REQUESTED:
        raise Conflict("QPay was asked to give this payment back; wait for what became of it")
    _refuse_while_young(p, by, now)
    if due_only and asked is None and not p.refund_due:
        raise Conflict("nothing of this payment is due back")
    wanted = _amount(session, p, amount if amount is not None or asked is None else asked.amount)
    done = Refund(
        amount=wanted,
        way=RefundWay.PERSON,
        by=by,
        at=now,
        state=RefundState.DONE,
        reference=reference,
        note=note or (asked.note if asked else ""),
        keys=_keys(key),
    )
    paid_back = _with_rest(_less(_in_place(p, done), wanted), asked, wanted)
    after = _with_payment(session, paid_back)
    if not _awaited(after):
        after = replace(after, looks=_others(after))
    after = with_exceptions(after, named(after), now)
    return _done(after, paid_back, wanted, done, now)


def decided(session: Session, payments: tuple[Payment, ...], *, by: str, note: str, now: Micros) -> Session:
    """All that is held or due of these goes back: it pays for nothing any more, and waits for whoever does it."""
    for p in payments:
        amount = p.held + p.refund_due
        if p.refund is None and amount:
            refund = Refund(amount=amount, way=RefundWay.PERSON, by=by, at=now, state=RefundState.DECIDED, note=note)
            moved = replace(p, held=0, refund_due=amount, refunds=(*p.refunds, refund))
            session = _with_payment(session, moved)
    return session


def with_refunds(session: Session, now: Micros, *, answered: bool) -> Session:
    """What QPay's answer means for refunds under way; a full answer that shows none climbs the ladder."""
    after = session
    for p in session.payments:
        open_ = p.refund
        if p.status == "REFUNDED" and (open_ is not None or p.refunded < p.amount):
            left = p.amount - p.refunded
            done = replace(open_, amount=left, state=RefundState.DONE, way=RefundWay.QPAY) if open_ else None
            refunds = tuple(done if r is open_ and done else r for r in p.refunds)
            gone = replace(p, refunds=refunds)
            after = _done(_with_payment(after, gone), gone, left, done, now)
    return _climbed(after, now, answered=answered)


def _climbed(session: Session, now: Micros, *, answered: bool) -> Session:
    look = next((look for look in session.looks if look.reason is Reason.OPERATOR), None)
    if look is None:
        return session
    if not _awaited(session):
        return replace(session, looks=_others(session))
    if not answered or not look.tries:
        return session
    following = climbed(look, now)
    if following is not None:
        return replace(session, looks=(*_others(session), following))
    payments = tuple(_unconfirmed(p) for p in session.payments)
    return replace(session, payments=payments, looks=_others(session))


def _unconfirmed(p: Payment) -> Payment:
    return _changed(p, lambda r: replace(r, state=RefundState.UNCONFIRMED) if _is_awaited(r) else r)


def _is_awaited(refund: Refund) -> bool:
    return refund.way is RefundWay.QPAY and refund.state is RefundState.REQUESTED


def refunds_awaited(session: Session) -> tuple[Payment, ...]:
    """The payments that QPay was asked to give back, and does not show as given back."""
    return tuple(p for p in session.payments if any(_is_awaited(r) for r in p.refunds))


def told_by_themselves(session: Session) -> tuple[Payment, ...]:
    """The payments to be looked up by their ids: QPay was asked to give them back, or they are on another's invoice."""
    asked = (p for p in session.payments if any(r.is_open and r.way is RefundWay.QPAY for r in p.refunds))
    assigned = (p for p in session.payments if p.assigned_by and p.status != "REFUNDED")
    return tuple({p.id: p for p in (*asked, *assigned)}.values())


def leaving_orders(p: Payment) -> Mongo:
    """What of it pays for orders, and is on its way back."""
    return max(p.refund.amount - p.refund_due - p.held, 0) if p.refund else 0


def _awaited(session: Session) -> bool:
    return bool(refunds_awaited(session))


def _ours(session: Session, payment_id: str) -> Payment:
    p = session.payment(payment_id)
    if p is None:
        raise NotFound("the session has no such payment")
    if session.custody is not Custody.OURS:
        raise Conflict("the session is in the hands of the old shop")
    if session.status is Status.PENDING:
        raise Conflict(STILL_PAYABLE)
    if not p.received or p.refunded == p.amount:
        raise Conflict("there is nothing of this payment to give back")
    return p


def _amount(session: Session, p: Payment, amount: Mongo | None) -> Mongo:
    left = p.amount - p.refunded
    wanted = amount if amount is not None else _meant(session, p)
    if not 0 < wanted <= left:
        raise Invalid(f"amount must be more than 0 and at most {format_tugrik(left)}, which is left of this payment")
    if len(p.refunds) >= MOST_REFUNDS:
        raise Conflict("this payment has been given back in too many parts")
    return wanted


def _meant(session: Session, p: Payment) -> Mongo:
    """What is meant where nobody says how much: what was asked for before, what is due, or all of it.

    Whoever looked at the session before another's refund may mean money that pays for the orders by now.
    """
    if p.refund is not None:
        return max(p.refund.amount, p.refund_due)
    if any(leaving_orders(other) for other in session.payments):
        raise Conflict(MAY_HAVE_TO_PAY + "; else say how much")
    if not p.refund_due and any(other.refunds or other.refunded for other in session.payments):
        raise Conflict("nothing of this payment is due back, and other money is or was given back; say how much")
    return p.refund_due or p.amount


def _refuse_while_young(p: Payment, by: str, now: Micros) -> None:
    refund = p.refund
    if refund is None or refund.state in (RefundState.DECIDED, RefundState.UNCONFIRMED):
        return
    if refund.way is RefundWay.QPAY:
        raise Conflict("QPay was asked to give this payment back; wait for what became of it")
    if refund.by != by and now - refund.at < YOUNG_SECONDS * SECOND:
        raise Conflict(f"it is being paid back by {refund.by}; ask there, or try again in an hour")


def _with_refund(session: Session, p: Payment, refund: Refund) -> Session:
    """The one open refund of a payment; what was to go back already, or is now, is due."""
    moved = _in_place(p, refund)
    due = min(max(refund.amount, moved.refund_due), moved.refund_due + moved.held)
    return _with_payment(session, replace(moved, refund_due=due, held=moved.held + moved.refund_due - due))


def _in_place(p: Payment, refund: Refund) -> Payment:
    """With this refund in place of the open one, whose requests are remembered with it."""
    keys = (*(key for r in p.refunds if r.is_open for key in r.keys), *refund.keys)
    return replace(p, refunds=(*(r for r in p.refunds if not r.is_open), replace(refund, keys=keys[-MOST_KEYS:])))


def _with_rest(p: Payment, asked: Refund | None, amount: Mongo) -> Payment:
    """What is due and was to go back, and did not go with this part, is still to go back: it pays for nothing."""
    left = min(asked.amount - amount, p.refund_due) if asked else 0
    if asked is None or left <= 0:
        return p
    rest = replace(asked, amount=left, keys=(), way=RefundWay.PERSON, state=RefundState.DECIDED)
    return replace(p, refunds=(*p.refunds, rest))


def _keys(key: str) -> tuple[str, ...]:
    return (key,) if key else ()


def _is_repeated(session: Session, key: str) -> bool:
    """Whether this request was committed before; a key is the request's own and its body's, joined by a colon."""
    own = key.partition(":")[0]
    for kept in (kept for p in session.payments for r in p.refunds for kept in r.keys):
        if key and kept.partition(":")[0] == own:
            if kept != key:
                raise IdempotencyMismatch
            return True
    return False


def _less(p: Payment, amount: Mongo) -> Payment:
    """Money that went back is taken from what was due, then from what was held, then from what was ordered."""
    due = min(p.refund_due, amount)
    held = min(p.held, amount - due)
    ordered = amount - due - held
    return replace(
        p,
        refund_due=p.refund_due - due,
        held=p.held - held,
        ordered=p.ordered - ordered,
        refunded=p.refunded + amount,
    )


def _done(session: Session, p: Payment, amount: Mongo, refund: Refund | None, now: Micros) -> Session:
    return session.with_news(
        "refund.done",
        now,
        payment_id=p.id,
        amount=format_tugrik(amount),
        currency=p.currency,
        way=refund.way.value if refund else RefundWay.QPAY.value,
        by=refund.by if refund else "",
        reference=refund.reference if refund else "",
    )


def _changed(p: Payment, change: Callable[[Refund], Refund]) -> Payment:
    refunds = tuple(change(r) for r in p.refunds)
    return replace(p, refunds=refunds) if refunds != p.refunds else p


def _with_payment(session: Session, payment: Payment) -> Session:
    return replace(session, payments=tuple(payment if p.id == payment.id else p for p in session.payments))


def _others(session: Session) -> tuple[Look, ...]:
    return tuple(look for look in session.looks if look.reason is not Reason.OPERATOR)
