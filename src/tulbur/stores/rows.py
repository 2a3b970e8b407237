"""A session and what belongs to it as rows, the same for every store; nothing here touches a database."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from operator import attrgetter
from typing import Any, Final, TypeAlias, TypeVar

from tulbur.core import codec
from tulbur.core.orders import Order
from tulbur.core.retention import unsettled
from tulbur.core.session import (
    PUBLIC_EVENTS,
    Event,
    ExceptionName,
    Invoice,
    InvoiceState,
    Micros,
    Payment,
    Session,
    Status,
    rank,
)
from tulbur.errors import StoreUnavailable
from tulbur.ports import (
    MOST_COUNTED,
    MOST_ROWS,
    EventDelivery,
    Leave,
    ListedPayment,
    NumberedEvent,
    StoreStats,
    SweepRun,
    Telling,
    Unmatched,
)

T = TypeVar("T")

Columns: TypeAlias = Mapping[Any, Any]
"""A row by the names of its columns, whoever read it."""

PROVIDER: Final = "qpay"
"""The value of every `provider` column; QPay is the only provider."""

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
TALLIES_KEPT_HOURS: Final = 7 * 24
TALLY_HOURS: Final = 24
"""How far back the counters of callbacks are summed."""

INVOICE_TAKEN: Final = "an invoice of this session is kept under another session"
ORDERED_ALREADY: Final = "this session has orders already, which its stored state does not know"
TOLD_ALREADY: Final = "an event with this id is stored already"

MONEY_IN: Final = ("PARTIAL", "PAID")
"""The QPay statuses in which there is money of the payer's with the shop."""

LATE: Final = (Status.EXPIRED, Status.CANCELLED)
"""The statuses in which money would come late."""


class EventState(IntEnum):
    """Where an event stands on its way to the shop."""

    PRIVATE = 0
    UNNUMBERED = 1
    NUMBERED = 2
    DELIVERED = 3
    PARKED = 4


UNDELIVERED: Final = (EventState.UNNUMBERED, EventState.NUMBERED)
UNTOLD: Final = (*UNDELIVERED, EventState.PARKED)
"""What keeps a session from being blanked."""

REPLAYABLE: Final = (EventState.DELIVERED, EventState.PARKED)

FIXED: Final = ("id", "user_id", "scope", "idempotency_key", "created_at")
"""What never changes of a session; so no commit has to write the indexes over it again."""

_fixed: Final = attrgetter(*FIXED)


@dataclass(frozen=True, slots=True)
class Change:
    """One commit: from `before` (None for a new session) to `after`, known ever after by `commit_id`."""

    before: Session | None
    after: Session
    commit_id: str

    def __post_init__(self) -> None:
        version = self.before.version if self.before else 0
        same = self.before is None or _fixed(self.before) == _fixed(self.after)
        # Without an event nothing would carry the commit id: "was it my commit?" could not be answered.
        if not self.after.news or not same or (version < 1) is not (self.before is None):
            raise AssertionError("a commit goes from a stored session to a later one and tells at least one event")

    @property
    def version(self) -> int:
        return self.before.version + 1 if self.before else 1

    @property
    def attempts(self) -> list[Invoice]:
        known = self.before.attempts if self.before else ()
        return [attempt for attempt in self.after.attempts if attempt not in known]

    @property
    def payments(self) -> list[Payment]:
        known = self.before.payments if self.before else ()
        return [payment for payment in self.after.payments if payment not in known]

    @property
    def assigned(self) -> frozenset[str]:
        """The payments that a person gives to the session with this commit: not if somebody has closed them."""
        known = {payment.id for payment in self.before.payments} if self.before else set()
        return frozenset(p.id for p in self.after.payments if p.assigned_by and p.id not in known)

    @property
    def orders(self) -> list[Order]:
        known = self.before.orders if self.before else ()
        return [order for order in self.after.orders if order not in known]


def changes(pairs: Sequence[tuple[Session, Session]], commit_id: str) -> list[Change]:
    """The pairs of one batch in the order of their ids, so that two batches never wait for each other's rows."""
    made = [Change(before, after, commit_id) for before, after in pairs]
    if len({change.after.id for change in made}) < len(made):
        raise AssertionError("a batch holds at most one pair for each session")
    return sorted(made, key=lambda change: change.after.id)


def as_asked(pairs: Sequence[tuple[Session, Session]], made: Sequence[Change], done: Sequence[T]) -> list[T]:
    """What became of each pair, in the order in which the pairs were given."""
    by_id = {change.after.id: result for change, result in zip(made, done, strict=True)}
    return [by_id[after.id] for _, after in pairs]


def page(limit: int) -> int:
    """A limit between nothing and the most rows of any page."""
    return max(0, min(limit, MOST_ROWS))


def counted(limit: int) -> int:
    """A limit between nothing and where counting ends."""
    return max(0, min(limit, MOST_COUNTED))


def session_row(change: Change) -> dict[str, Any]:
    """Every column of the session as it will be stored; a commit ends whatever lease there was."""
    after = change.after
    return {
        "id": after.id,
        "version": change.version,
        "status": after.status.value,
        "exceptions": exceptions_text(after.exceptions),
        "user_id": after.user_id,
        "scope": after.scope,
        "idempotency_key": after.idempotency_key,
        "body_digest": after.body_digest,
        "amount": after.amount,
        "currency": after.currency,
        "unsettled": unsettled(after),
        "created_at": after.created_at,
        "updated_at": max(event.at for event in after.news),
        "expires_at": after.expires_at,
        "next_check_at": after.next_check_at,
        "lease_owner": None,
        "lease_until": 0,
        "commit_id": change.commit_id,
        "blanked_at": after.blanked_at,
        "document": codec.encode(after),
    }


def read_session(document: bytes, version: int) -> Session:
    """Read a stored session.

    Raises:
        StoreUnavailable: the bytes are damaged, or a newer release wrote them.
    """
    try:
        return codec.decode(document, version)
    except codec.UnreadableDocument as unreadable:
        raise StoreUnavailable("a stored session cannot be read by this release") from unreadable


def exceptions_text(names: frozenset[ExceptionName]) -> str:
    """Such as ",late,overpaid,": each name can be found between its commas."""
    return f",{','.join(sorted(names))}," if names else ""


def exceptions_named(text: str) -> list[str]:
    """The names as they stand there; a later release may have written one that this one does not know."""
    return [name for name in text.split(",") if name]


def invoice_row(session_id: str, attempt: Invoice) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "number": attempt.number,
        "provider": PROVIDER,
        "invoice_id": attempt.id,
        "sender_invoice_no": attempt.sender_invoice_no,
        "state": attempt.state.value,
        "created_at": attempt.created_at,
        "deadline": attempt.deadline,
    }


def payment_row(session_id: str, payment: Payment) -> dict[str, Any]:
    return {
        "provider": PROVIDER,
        "payment_id": payment.id,
        "session_id": session_id,
        "hinted_session_id": "",
        "invoice_id": payment.invoice_id,
        "amount": payment.amount,
        "currency": payment.currency,
        "status": payment.status,
        "method": payment.method,
        "wallet": payment.wallet,
        "seen_at": payment.seen_at,
        "due_at": None,
        "paid_at": payment.paid_at,
        "ordered": payment.ordered,
        "refund_due": payment.refund_due,
        "refunded": payment.refunded,
        "held": payment.held,
        "raw": "",
    }


def unmatched_row(unmatched: Unmatched) -> dict[str, Any]:
    return {
        "provider": PROVIDER,
        "payment_id": unmatched.payment_id,
        "session_id": None,
        "hinted_session_id": unmatched.hinted_session_id,
        "invoice_id": unmatched.invoice_id,
        "amount": unmatched.amount,
        "currency": unmatched.currency,
        "status": unmatched.status,
        "method": unmatched.method,
        "wallet": unmatched.wallet,
        "seen_at": unmatched.seen_at,
        "due_at": unmatched.due_at,
        "paid_at": unmatched.paid_at,
        "ordered": 0,
        "refund_due": 0,
        "refunded": 0,
        "held": 0,
        "raw": unmatched.raw,
        "tries": unmatched.tries,
        "closed_at": unmatched.closed_at,
    }


def merged(known: Unmatched, later: Unmatched) -> Unmatched:
    """What is known of a payment without a session once it is reported again; a closed one may open by that.

    A closed one has nothing due: that was done with, unless it was a bare hint or there is money it had not shown.
    """
    facts = looked(known, later)
    news = known.amount is None or (later.status in MONEY_IN and rank(facts.status) > rank(known.status))
    closed = known.closed_at is not None and not news
    return replace(
        facts,
        tries=known.tries,
        closed_at=known.closed_at if closed else None,
        due_at=None if closed else later.due_at,
    )


def looked(known: Unmatched, later: Unmatched) -> Unmatched:
    """The same after a look: facts are added, its status only advances."""
    more = later.amount is not None and (known.amount is None or rank(later.status) > rank(known.status))
    facts = later if more else known
    return replace(
        facts,
        seen_at=known.seen_at,
        due_at=later.due_at,
        hinted_session_id=known.hinted_session_id or later.hinted_session_id,
        invoice_id=known.invoice_id or later.invoice_id,
        method=facts.method or known.method or later.method,
        wallet=facts.wallet or known.wallet or later.wallet,
        paid_at=known.paid_at if facts.paid_at is None else facts.paid_at,
        raw=facts.raw or known.raw or later.raw,
        tries=later.tries,
        closed_at=known.closed_at,
    )


def cutoffs(finished_before: Micros, late_before: Micros) -> dict[Status, Micros]:
    """Since when what is finished must have been left alone, to be blanked."""
    return {Status.PAID: finished_before, **dict.fromkeys(LATE, late_before)}


def kept_back(session: Session) -> int:
    """What to write as unsettled of a session that its step does not blank, so that the same is not found for ever.

    Only rows that an earlier release wrote are not as they should be; their next commit writes it anew.
    """
    return unsettled(session) or 1


def has_open_invoice(session: Session) -> bool:
    return any(attempt.state is InvoiceState.OPEN and attempt.id for attempt in session.attempts)


def is_left(session: Session, leave: Leave) -> bool:
    """Whether it is passed over for what only its document tells."""
    return leave.payable and session.status in LATE and has_open_invoice(session)


def order_row(session_id: str, order: Order) -> dict[str, Any]:
    return {
        "id": order.id,
        "session_id": session_id,
        "shop_id": order.shop_id,
        "total": order.total,
        "discount": order.discount,
        "shipping_amount": order.shipping_amount,
        "currency": order.currency,
        "created_at": order.created_at,
        "items": json.dumps(
            [codec.plain_item(item) for item in order.items],
            ensure_ascii=False,
        ).encode(),
    }


def read_unmatched(row: Columns) -> Unmatched:
    return Unmatched(
        payment_id=row["payment_id"],
        seen_at=row["seen_at"],
        due_at=row["due_at"],
        hinted_session_id=row["hinted_session_id"],
        invoice_id=row["invoice_id"],
        amount=row["amount"],
        currency=row["currency"],
        status=row["status"],
        method=row["method"],
        wallet=row["wallet"],
        paid_at=row["paid_at"],
        raw=row["raw"],
        tries=row.get("tries", 0),
        closed_at=row.get("closed_at"),
        note=_note(row),
    )


_LISTED: Final = tuple(f.name for f in fields(ListedPayment) if f.name not in ("closed_at", "note"))


def read_payment(row: Columns) -> ListedPayment:
    return ListedPayment(**{name: row[name] for name in _LISTED}, closed_at=row.get("closed_at"), note=_note(row))


def _note(row: Columns) -> dict[str, str]:
    return dict(json.loads(row.get("note") or "{}"))


def is_closed_so(row: Columns, now: Micros, note: str) -> bool:
    """Whether it was this very call, sent before, that closed the payment."""
    return bool(row["closed_at"] == now and row["note"] == note)


def written(note: Mapping[str, Any]) -> str:
    return json.dumps(dict(note), ensure_ascii=False, sort_keys=True)


def sweep_row(run: SweepRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "window_start": run.start,
        "window_end": run.end,
        "reason": run.reason,
        "complete": int(run.complete),
        "report": written(run.report),
    }


def read_sweep(row: Columns) -> SweepRun:
    return SweepRun(
        id=row["id"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        start=row["window_start"],
        end=row["window_end"],
        reason=row["reason"],
        complete=bool(row["complete"]),
        report=json.loads(row["report"]),
    )


def read_order(row: Columns) -> Order:
    return Order(
        id=row["id"],
        shop_id=row["shop_id"],
        total=row["total"],
        discount=row["discount"],
        shipping_amount=row["shipping_amount"],
        currency=row["currency"],
        items=tuple(codec.read_item(item) for item in json.loads(row["items"])),
        created_at=row["created_at"],
    )


def event_rows(change: Change) -> list[dict[str, Any]]:
    """One row for each new event, counted on from the session's earlier ones."""
    after = change.after
    first = after.event_count - len(after.news) + 1
    return [
        {
            "id": event.id,
            "session_id": after.id,
            "seq": seq,
            "type": event.type,
            "at": event.at,
            "state": EventState.UNNUMBERED if event.type in PUBLIC_EVENTS else EventState.PRIVATE,
            "no": None,
            "lease_owner": None,
            "lease_until": 0,
            "commit_id": change.commit_id,
            "attempts": 0,
            "data": json.dumps(dict(event.data), ensure_ascii=False),
        }
        for seq, event in enumerate(after.news, first)
    ]


def read_event(row: Columns) -> Event:
    return Event(id=row["id"], type=row["type"], at=row["at"], data=json.loads(row["data"]))


def numbered(row: Columns) -> NumberedEvent:
    return NumberedEvent(row["no"], row["session_id"], read_event(row), row.get("attempts", 0))


_TELLING: Final = {
    EventState.UNNUMBERED: Telling.WAITING,
    EventState.NUMBERED: Telling.WAITING,
    EventState.PARKED: Telling.PARKED,
}


def delivery(row: Columns) -> EventDelivery:
    """How far the shop was told; the lease of a delivered event ended when it took it."""
    state, owner, until = EventState(row["state"]), row["lease_owner"], row["lease_until"] or None
    done = state is EventState.DELIVERED
    return EventDelivery(
        event=read_event(row),
        state=_TELLING.get(state, Telling.DELIVERED if until else Telling.ENDED),
        no=row["no"],
        attempts=row.get("attempts", 0),
        retry_at=None if done or owner else until,
        delivered_at=until if done else None,
    )


def delivered(clock: Micros) -> dict[str, Any]:
    """What a delivery sets; what nobody is sent is DELIVERED with no time."""
    return {"state": EventState.DELIVERED, "lease_owner": None, "lease_until": clock}


def failed(retry_at: Micros | None) -> dict[str, Any]:
    """What a failed delivery sets; the lease's end holds the event back until its retry, for every release."""
    return {
        "state": EventState.PARKED if retry_at is None else EventState.NUMBERED,
        "lease_owner": None,
        "lease_until": retry_at or 0,
    }


AGAIN: Final[Mapping[str, Any]] = {
    "state": EventState.NUMBERED,
    "lease_owner": None,
    "lease_until": 0,
    "attempts": 0,
}
"""What a replay sets."""

DISORDER: Final = DAY
"""By how much the times of two events may disagree with their numbers."""


def replayable(examined: Iterable[Columns], *, since: Micros, before: Micros, parked_only: bool) -> list[str]:
    """The ids of those that become deliverable again."""
    states = (EventState.PARKED,) if parked_only else REPLAYABLE
    return [row["id"] for row in examined if row["state"] in states and since <= row["at"] < before]


def in_order(waiting: Iterable[Columns], limit: int) -> list[str]:
    """Ids of events to be numbered: oldest first, yet never a session's later event before its earlier one.

    Two hosts' clocks may differ, so `at` alone would not do.
    """
    oldest_first = sorted(waiting, key=lambda row: (row["at"], row["id"]))
    queues: dict[str, deque[tuple[int, str]]] = {}
    for row in sorted(oldest_first, key=lambda row: int(row["seq"])):
        queues.setdefault(row["session_id"], deque()).append((row["seq"], row["id"]))
    ids: list[str] = []
    for row in oldest_first:
        queue = queues[row["session_id"]]
        while queue and queue[0][0] <= row["seq"]:
            ids.append(queue.popleft()[1])
    return ids[: page(limit)]


def lease_end(clock: Micros, seconds: float) -> Micros:
    return clock + round(seconds * 1_000_000)


def stats(
    *,
    statuses: Iterable[tuple[str, int]],
    exceptions: Iterable[tuple[str, int]],
    refunds: Iterable[tuple[str, int, int]],
    held: Iterable[tuple[str, int, int]],
    loads: Iterable[tuple[str, int]],
    created_24h: int,
    orders: int,
    unmatched: int,
    checks_due: int,
    events_undelivered: int,
    events_parked: int,
    swept_until: Micros | None,
) -> StoreStats:
    """Put counted groups together: sets of exceptions by each name, money (currency, count, sum) in MNT."""
    by_exception: dict[str, int] = {}
    for text, count in exceptions:
        for name in exceptions_named(text):
            by_exception[name] = by_exception.get(name, 0) + count
    summed: dict[str, int] = {}
    for source, count in loads:
        summed[source] = summed.get(source, 0) + count
    by_status = dict(statuses)
    due, kept = list(refunds), list(held)
    return StoreStats(
        by_status={status: by_status.get(status.value, 0) for status in Status},
        by_exception=by_exception,
        created_24h=created_24h,
        orders=orders,
        refund_due_count=sum(count for _, count, _ in due),
        refund_due=_tugrik(due),
        held_count=sum(count for _, count, _ in kept),
        held=_tugrik(kept),
        swept_until=swept_until,
        unmatched=unmatched,
        checks_due=checks_due,
        events_undelivered=events_undelivered,
        events_parked=events_parked,
        loads=summed,
    )


def _tugrik(sums: Iterable[tuple[str, int, int]]) -> int:
    return sum(amount for currency, _, amount in sums if currency == "MNT")
