"""The use cases a process is killed in: one entry of `HANDLERS` each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from proving.crash.judging import (
    blanked_or_whole,
    cancelled,
    delivered,
    given_back_once,
    ordered,
    paid_or_cancelled,
    replayed,
    unpaid,
)
from proving.crash.shop import EXPIRES_SECONDS, Case, Shop
from tulbur.core.session import Reason, Session
from tulbur.payments import refunding
from tulbur.worker import LEASE_SECONDS

Act: TypeAlias = Callable[[Shop, Case], Awaitable[None]]
Verdict: TypeAlias = Callable[[Shop, Case, list[Session], bool], Awaitable[None]]

MOST_ROUNDS: Final = 100
BY: Final = "a person"


@dataclass(frozen=True, slots=True)
class Handler:
    """`prepare` before the process can be killed, `act` in it; `again` what its caller does when it is told nothing.

    `finish` is what the next process does by itself besides looking, and `judge` what must have come of it beyond the
    laws that hold for everything; it is told whether the caller came again. `promise` must hold right after an answer.
    """

    prepare: Callable[[Shop, Case], Awaitable[Case]]
    act: Act
    judge: Verdict
    again: Act
    promise: Act | None = None
    finish: Act | None = None
    spools: bool = False


# --- what is prepared


async def nothing(shop: Shop, case: Case) -> Case:  # noqa: ARG001 - one shape
    return case


async def opened(shop: Shop, case: Case) -> Case:
    session = await shop.payments.open(shop.request(case))
    return replace(case, session_id=session.id)


async def paid(shop: Shop, case: Case) -> Case:
    """Money that nobody has told of."""
    session = await shop.payments.open(shop.request(case))
    return replace(case, session_id=session.id, payment_id=shop.pay(session))


async def overdue(shop: Shop, case: Case) -> Case:
    case = await paid(shop, case)
    shop.advance(EXPIRES_SECONDS + 60)
    return case


async def unpaid_and_overdue(shop: Shop, case: Case) -> Case:
    case = await opened(shop, case)
    shop.advance(EXPIRES_SECONDS + 60)
    return case


async def hinted(shop: Shop, case: Case) -> Case:
    """QPay called, but did not show the money yet."""
    case = await paid(shop, case)
    invoice_id = str((await shop.desk.stored(case.session_id)).attempts[0].id)
    shop.line.say("hide", invoice_id)
    await shop.callback(case)
    await shop.payments.stop()
    shop.line.say("show", invoice_id)
    shop.advance(61)
    return case


async def hidden(shop: Shop, case: Case) -> Case:
    """QPay calls before it shows the money."""
    case = await paid(shop, case)
    shop.line.say("hide", str((await shop.desk.stored(case.session_id)).attempts[0].id))
    return case


async def settled(shop: Shop, case: Case) -> Case:
    case = await paid(shop, case)
    await shop.callback(case)
    await shop.payments.stop()
    return case


async def paid_by_card(shop: Shop, case: Case) -> Case:
    session = await shop.payments.open(shop.request(case))
    case = replace(case, session_id=session.id, payment_id=shop.pay(session, "CARD"))
    await shop.callback(case)
    await shop.payments.stop()
    return case


async def told(shop: Shop, case: Case) -> Case:
    """Settled, and its events are with whoever wanted them."""
    case = await settled(shop, case)
    await shop.store.publish(50, deliver=False)
    shop.advance(1)
    return case


async def spooled(shop: Shop, case: Case) -> Case:
    case = await paid(shop, case)
    await shop.desk.spooled(case.session_id, case.payment_id)
    return case


# --- what is done


async def open_(shop: Shop, case: Case) -> None:
    await shop.payments.open(shop.request(case))


async def reopen(shop: Shop, case: Case) -> None:
    """The shop retries with its key, and its payer pays, once."""
    shop.advance(31)
    session = await shop.payments.open(shop.request(case))
    if any(bill.payments for bill in shop.state()[0].values()):
        return
    assert session.payable is not None, "a retry shows an invoice that can be paid"
    shop.pay(session)


async def callback(shop: Shop, case: Case) -> None:
    await shop.callback(case)


async def work(shop: Shop, case: Case) -> None:  # noqa: ARG001 - one shape
    await shop.worker.once()


async def check(shop: Shop, case: Case) -> None:
    await shop.payments.check(case.session_id, Reason.OPERATOR)


async def cancel(shop: Shop, case: Case) -> None:
    await shop.payments.cancel(case.session_id)


async def refund(shop: Shop, case: Case) -> None:
    await refunding.refund(shop.desk, case.session_id, case.payment_id, by=BY)


async def deliver(shop: Shop, case: Case) -> None:  # noqa: ARG001 - one shape
    """One round of the outbox: number, lease, hand over, tick off."""
    await shop.store.publish(50)
    owner = shop.shared.new_id()
    for event in await shop.store.claim_events(owner, 10, LEASE_SECONDS):
        shop.line.say("deliver", event.no, event.event.id)
        await shop.store.events_done(owner, [event.event.id])


async def deliver_all(shop: Shop, case: Case) -> None:
    for _ in range(MOST_ROUNDS):
        shop.advance(LEASE_SECONDS + 1)
        before = len(shop.state()[2])
        await deliver(shop, case)
        if len(shop.state()[2]) == before:
            return
    raise AssertionError("law 2: the outbox never comes to rest")


async def clean(shop: Shop, case: Case) -> None:  # noqa: ARG001 - one shape
    now = shop.shared.clock()
    await shop.store.blank(finished_before=now, late_before=now, now=now, limit=10)


async def replay(shop: Shop, case: Case) -> None:  # noqa: ARG001 - one shape
    await shop.replayer().once()


async def show(shop: Shop, case: Case) -> None:
    shop.line.say("show", str((await shop.desk.stored(case.session_id)).attempts[0].id))


# --- promises: what must be stored once the caller has its answer


async def hint_is_kept(shop: Shop, case: Case) -> None:
    stored = await shop.desk.stored(case.session_id)
    known = {hint.payment_id for hint in stored.hints} | {p.id for p in stored.payments}
    assert case.payment_id in known, "law 5: SUCCESS is a promise"


async def refund_is_kept(shop: Shop, case: Case) -> None:
    payment = (await shop.desk.stored(case.session_id)).payment(case.payment_id)
    assert payment is not None
    assert payment.refunds, "law 5: a refund that was answered is stored"


async def session_is_kept(shop: Shop, case: Case) -> None:
    sessions = await shop.sessions(case)
    assert len(sessions) == 1, "law 1: one session for one key"
    assert sessions[0].payable is not None, "law 5: the invoice that was shown is stored"


HANDLERS: Final[dict[str, Handler]] = {
    "open": Handler(nothing, open_, ordered, reopen, promise=session_is_kept),
    "callback": Handler(paid, callback, ordered, callback, promise=hint_is_kept),
    "callback before the money shows": Handler(hidden, callback, ordered, callback, promise=hint_is_kept, finish=show),
    "worker at the deadline": Handler(overdue, work, ordered, callback),
    "worker on the ladder": Handler(hinted, work, ordered, callback),
    "worker, unpaid": Handler(unpaid_and_overdue, work, unpaid, work),
    "check": Handler(paid, check, ordered, callback),
    "outbox": Handler(settled, deliver, delivered, deliver, finish=deliver_all),
    "cleanup": Handler(told, clean, blanked_or_whole, clean),
    "refund": Handler(paid_by_card, refund, given_back_once, refund, promise=refund_is_kept),
    "cancel": Handler(opened, cancel, cancelled, cancel),
    "cancel of what is paid": Handler(paid, cancel, paid_or_cancelled, cancel),
    "spool replay": Handler(spooled, replay, replayed, callback, finish=replay, spools=True),
}
