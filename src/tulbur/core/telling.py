"""Where a session stands, in one sentence with what to do next, and what each line of its history means.

No text here holds a cart, an address or a note that somebody wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from shlex import quote
from typing import Any, Final

from tulbur.core.custody import Custody
from tulbur.core.money import Mongo, format_tugrik
from tulbur.core.refund import RefundState, RefundWay
from tulbur.core.session import SECOND, Event, ExceptionName, HintState, Micros, Payment, Session, Status

ULAANBAATAR: Final = timezone(timedelta(hours=8), "Ulaanbaatar")
"""Mongolia has kept no summer time since 2017."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where it stands, and the commands a person may choose from; none where there is nothing to do."""

    text: str
    do: tuple[str, ...] = ()


def local(at: Micros) -> str:
    """A time as a person in the shop reads it."""
    return datetime.fromtimestamp(at / SECOND, UTC).astimezone(ULAANBAATAR).strftime("%Y-%m-%d %H:%M:%S")


def verdict(session: Session) -> Verdict:
    """Where it stands, and what a person has to do, if anything."""
    if session.custody is not Custody.OURS:
        return _theirs(session)
    do = (*_decisions(session), *(line for p in session.payments for line in _refunds(session, p)), *_unseen(session))
    text = "; ".join([_standing(session), *_money(session)])
    return Verdict(f"waits for a person: {text}" if do and session.status is not Status.PAID else text, do)


def _theirs(session: Session) -> Verdict:
    if session.custody is Custody.HANDED_OVER:
        text = "given back to the old shop, which makes its orders"
        come = [f"{_sum(session, 'held')} came here and is held"] if _sum(session, "held") else []
        back = f"tulbur export-redis {quote(session.id)} --take-back"
        return Verdict("; ".join([text, *come]), (back,) if come else ())
    review = session.claim.review if session.claim else ""
    if review:
        text = f"waits for a person: imported from the old shop, and {review}"
        return Verdict(text, (f"tulbur sessions review {quote(session.id)} accept",))
    return Verdict(
        "still the old shop's: imported, not taken over; nothing is asked and nothing ordered here",
        ("tulbur import --take-over, once the old shop is stopped",),
    )


def _standing(session: Session) -> str:
    match session.status:
        case Status.PAID:
            flags = [
                name.value for name in (ExceptionName.LATE, ExceptionName.AFTER_CANCEL) if name in session.exceptions
            ]
            how = f" ({', '.join(flags)})" if flags else ""
            return f"PAID at {local(session.paid_at or 0)}{how}, {_count(len(session.orders), 'order')}"
        case Status.PENDING:
            if not any(a.id for a in session.attempts):
                return "PENDING: no invoice has been made; the shop has to repeat its request"
            return f"PENDING: the payer has until {local(session.expires_at)}"
        case Status.CANCELLED:
            return f"CANCELLED at {local(session.cancelled_at or 0)}"
    return f"EXPIRED: the payer had until {local(session.expires_at)}"


def _money(session: Session) -> list[str]:
    received = _sum(session, "amount")
    told = []
    if session.status is not Status.PAID:
        told.append(
            f"{_named_short(session)}{received} of {format_tugrik(session.amount)} came" if received else "nothing came"
        )
    told += [
        f"{amount} {word}"
        for part, word in (("refund_due", "due back"), ("held", "held"), ("refunded", "given back"))
        if (amount := _sum(session, part))
    ]
    if session.blanked_at is not None:
        told.append(f"its cart was blanked at {local(session.blanked_at)}")
    return told


def _named_short(session: Session) -> str:
    return "underpaid: " if ExceptionName.UNDERPAID in session.exceptions else ""


def _sum(session: Session, part: str) -> str:
    """Received money by currency; "" where there is none."""
    sums: dict[str, Mongo] = {}
    for p in session.payments:
        if p.received and getattr(p, part):
            sums[p.currency] = sums.get(p.currency, 0) + getattr(p, part)
    return " and ".join(f"{format_tugrik(amount)} {currency}" for currency, amount in sorted(sums.items()))


def _decisions(session: Session) -> list[str]:
    if session.status in (Status.PAID, Status.PENDING):
        return []
    undecided = [p for p in session.payments if p.held or (p.refund_due and p.refund is None)]
    if not undecided:
        return []
    accept = any(p.status == "PAID" and p.currency == session.currency for p in undecided)
    review = f"tulbur sessions review {quote(session.id)}"
    makes = [f"{review} accept  (make the orders all the same)"] if accept and session.blanked_at is None else []
    return [*makes, f"{review} refund  (the money goes back)"]


def _refunds(session: Session, p: Payment) -> list[str]:
    by_hand = f"tulbur sessions refund {quote(session.id)} {p.id} --reference R  (once it is paid back by hand)"
    again = f"tulbur sessions refund {quote(session.id)} {p.id}"
    refund = p.refund
    if refund is None:
        return [again] if p.refund_due and session.status is Status.PAID else []
    if refund.state is RefundState.DECIDED:
        return [again]
    if refund.state is RefundState.UNCONFIRMED:
        return [f"{again}  (ask QPay again)", by_hand]
    return [by_hand] if refund.way is RefundWay.PERSON else []


def _unseen(session: Session) -> list[str]:
    lost = [hint for hint in session.hints if hint.state is HintState.UNCONFIRMED and hint.payment_id]
    return [f"tulbur sessions check {quote(session.id)}  (QPay never showed {lost[-1].payment_id})"] if lost else []


# --- the history -----------------------------------------------------------------------------------------------------


def told(event: Event) -> tuple[str, str]:
    """Who caused an event, and what happened; one of a later release is told by its name."""
    how = _LINES.get(event.type)
    return how(event.data) if how else ("tulbur", event.type)


_Line = Callable[[Mapping[str, Any]], tuple[str, str]]

_ASKED: Final[Mapping[str, tuple[str, str]]] = {
    "callback": ("callback", "QPay is asked, because of a callback"),
    "payer": ("payer", "QPay is asked, because the payer looks or says that he paid"),
    "deadline": ("deadline", "QPay is asked, once before it ends"),
    "sweep": ("sweep", "QPay is asked, because of a sweep"),
    "operator": ("operator", "QPay is asked, because an operator or a refund wants to know"),
}


def _asked(data: Mapping[str, Any]) -> tuple[str, str]:
    source, text = _ASKED.get(str(data.get("reason")), ("tulbur", "QPay is asked"))
    return (str(data["by"]), "QPay is asked, because somebody wants to know") if data.get("by") else (source, text)


def _always(source: str, text: str) -> _Line:
    return lambda _: (source, text)


def _callback(data: Mapping[str, Any]) -> tuple[str, str]:
    id_ = data.get("payment_id")
    return (
        "callback",
        f"a callback names payment {id_}; its word decides nothing" if id_ else "a callback names no payment",
    )


def _seen(data: Mapping[str, Any]) -> tuple[str, str]:
    money = f"{data.get('amount')} {data.get('currency')}"
    return "QPay", f"QPay shows payment {data.get('payment_id')}: {money} {data.get('status')}"


def _answered(data: Mapping[str, Any]) -> tuple[str, str]:
    return "QPay", "QPay answers: nothing new" if data.get(
        "complete"
    ) else "QPay answers in part, which proves nothing missing"


def _requested(data: Mapping[str, Any]) -> tuple[str, str]:
    way = "of QPay" if data.get("way") == RefundWay.QPAY.value else "as a person's task"
    return _person(data), f"refund of {data.get('amount')} for payment {data.get('payment_id')} requested {way}"


def _given_back(data: Mapping[str, Any]) -> tuple[str, str]:
    reference = f", reference {data['reference']}" if data.get("reference") else ""
    source = "QPay" if data.get("way") == RefundWay.QPAY.value else _person(data)
    return source, f"{data.get('amount')} of payment {data.get('payment_id')} was given back{reference}"


def _reviewed(data: Mapping[str, Any]) -> tuple[str, str]:
    short = f", {data['shortfall']} short" if data.get("shortfall") not in (None, "0.00") else ""
    return _person(data), f"decided: {data.get('decision')}{short}"


def _imported(data: Mapping[str, Any]) -> tuple[str, str]:
    review = f"; a person has to look: {data['review']}" if data.get("review") else ""
    return "import", f"the old shop says {data.get('status')}{review}"


def _order(data: Mapping[str, Any]) -> tuple[str, str]:
    return "tulbur", f"order {data.get('order_id')} for shop {data.get('shop_id') or '-'}: {data.get('total')}"


def _due(data: Mapping[str, Any]) -> tuple[str, str]:
    return "tulbur", f"{data.get('amount')} {data.get('currency')} of payment {data.get('payment_id')} is due back"


def _expired(data: Mapping[str, Any]) -> tuple[str, str]:
    silent = "EXPIRED: QPay gave no full answer for a week"
    return "deadline", silent if data.get(
        "unanswered"
    ) else "EXPIRED: the deadline passed, and QPay shows no full payment"


def _person(data: Mapping[str, Any]) -> str:
    return str(data.get("by") or "operator")


_LINES: Final[Mapping[str, _Line]] = {
    "session.opened": lambda d: ("shop", f"opened over {d.get('amount')} {d.get('currency')}"),
    "session.invoiced": lambda d: ("QPay", f"QPay made invoice {d.get('invoice_id')} (attempt {d.get('attempt')})"),
    "session.paid": lambda d: (
        "tulbur",
        f"PAID, with {_count(len(d.get('order_ids', ())), 'order')} in the same commit",
    ),
    "session.expired": _expired,
    "session.cancelled": lambda d: (str(d.get("by") or "shop or payer"), "CANCELLED: given up"),
    "session.exception": lambda d: ("tulbur", f"named {d.get('exception')}"),
    "session.reviewed": _reviewed,
    "session.imported": _imported,
    "session.taken_over": _always("import", "taken over: it is ours from here on"),
    "session.handed_over": _always("operator", "given back to the old shop"),
    "session.taken_back": _always("operator", "taken back from the old shop"),
    "session.blanked": _always("cleanup", "cart and personal data taken out; every key and amount stays"),
    "invoice.attempted": lambda d: ("shop", f"another invoice is wanted (attempt {d.get('attempt')})"),
    "invoice.refused": lambda d: ("QPay", f"QPay refused attempt {d.get('attempt')}: {d.get('key')}"),
    "invoice.unknown": lambda d: ("QPay", f"no answer to attempt {d.get('attempt')}: QPay may have made an invoice"),
    "invoice.cancelled": lambda d: ("tulbur", f"the invoice of attempt {d.get('attempt')} is cancelled at QPay"),
    "callback.received": _callback,
    "check.asked": _asked,
    "check.answered": _answered,
    "check.unanswered": _always("QPay", "QPay does not answer; it will be asked again"),
    "check.postponed": _always(
        "tulbur", "a look has to wait: a question is under way, or the day's questions are used up"
    ),
    "check.given_up": _always("tulbur", "nothing is waited for any more: QPay gave no full answer for a week"),
    "payment.seen": _seen,
    "payment.assigned": lambda d: (_person(d), f"payment {d.get('payment_id')} was given to this session"),
    "order.created": _order,
    "refund.due": _due,
    "refund.requested": _requested,
    "refund.refused": lambda d: ("QPay", f"QPay refused to give {d.get('payment_id')} back ({d.get('key')}): by hand"),
    "refund.done": _given_back,
}


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
