"""The use cases a process is killed in: one entry of `HANDLERS` each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from proving.crash.judging import (
    assigned,
    blanked_or_whole,
    cancelled,
    closed_and_blanked,
    declined,
    delivered,
    given_back_once,
    ordered,
    paid_or_cancelled,
    replayed,
    swept,
    unpaid,
)
from proving.crash.neighbours import Told
from proving.crash.shop import AMOUNT, EXPIRES_SECONDS, Case, Setting, Shop
from tulbur.core.moving import OldSession, OldStatus
from tulbur.core.schedule import DAY
from tulbur.core.session import SECOND, Reason, Session
from tulbur.core.sweeping import LAG_SECONDS, TROUBLE_SECONDS
from tulbur.payments import cleaning, matching, refunding
from tulbur.payments.cleaning import Keep
from tulbur.ports import MOST_ROWS, InvoiceRequest, SweepRun
from tulbur.worker import LEASE_SECONDS, Deliverer, Follower, Sweeper
from tulbur.worker.following import FOLLOW_LEASE_SECONDS

Act: TypeAlias = Callable[[Shop, Case], Awaitable[None]]
Verdict: TypeAlias = Callable[[Shop, Case, list[Session], bool], Awaitable[None]]

MOST_ROUNDS: Final = 100
DAY_SECONDS: Final = DAY // SECOND
HOUR_SECONDS: Final = 3600
KEEP: Final = Keep()
KEEP_NOTHING: Final = Keep(retention_days=0, late_days=0)
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
    setting: Setting = Setting.PLAIN


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


async def refused(shop: Shop, case: Case) -> Case:
    """Settled; the shop refuses the first event once."""
    shop.line.say("refuse")
    return await settled(shop, case)


async def told(shop: Shop, case: Case) -> Case:
    """Settled long ago, and its events are with whoever wanted them; there is nothing else to clean up."""
    await cleaning.clean(shop.desk, KEEP_NOTHING, pause=turn)
    case = await settled(shop, case)
    await shop.store.publish(MOST_ROWS, deliver=False)
    shop.advance(KEEP.retention_days * DAY_SECONDS + 1)
    return case


async def unpaid_long_ago(shop: Shop, case: Case) -> Case:
    """Expired, and its invoice is still open at QPay."""
    await cleaning.clean(shop.desk, KEEP_NOTHING, pause=turn)
    case = await expired(shop, case)
    shop.advance(KEEP.late_days * DAY_SECONDS + 1)
    return case


async def expired(shop: Shop, case: Case) -> Case:
    case = await unpaid_and_overdue(shop, case)
    await shop.worker.once()
    await shop.payments.stop()
    return case


async def paid_unheard(shop: Shop, case: Case) -> Case:
    """Money that came after the deadline, and whose callback was lost: only a sweep finds it. All before was swept."""
    case = await expired(shop, case)
    now = shop.shared.clock()
    swept = SweepRun(
        id=shop.shared.new_id(), started_at=now, ended_at=now, start=now - DAY, end=now, reason="daily", complete=True
    )
    await shop.store.sweep_put(swept)
    payment_id = shop.pay(await shop.desk.stored(case.session_id))
    shop.advance(DAY_SECONDS + LAG_SECONDS)
    return replace(case, payment_id=payment_id)


async def held(shop: Shop, case: Case) -> Case:
    """Money that came after the deadline, and waits for a person."""
    case = await expired(shop, case)
    case = replace(case, payment_id=shop.pay(await shop.desk.stored(case.session_id)))
    await shop.callback(case)
    await shop.payments.stop()
    return case


async def unmatched(shop: Shop, case: Case) -> Case:
    """A payer paid on an invoice that is of no session."""
    case = await opened(shop, case)
    made = shop.line.say("create_invoice", invoice_request("of-nobody"))
    payment_id = str(shop.line.say("pay", made.id, "P2P"))
    seen = shop.line.say("get_payment", payment_id)
    await shop.store.record_unmatched(matching.of_payment(seen, shop.shared.clock()))
    return replace(case, payment_id=payment_id)


async def in_the_old_shop(shop: Shop, case: Case) -> Case:
    """A session that the old shop has in its Redis alone, and that is paid at QPay."""
    id_, now = f"old-{shop.shared.new_id()}", shop.shared.clock()
    made = shop.line.say("create_invoice", invoice_request(id_))
    cart = [{"productId": "p1", "shopId": shop_id, "quantity": 1, "sale_price": 25000} for shop_id in ("s1", "s2")]
    old = OldSession(
        id=id_,
        user_id=case.user_id,
        amount=AMOUNT,
        currency="MNT",
        payload={"userId": case.user_id, "cart": cart, "sellers": [], "totalAmount": 50000},
        status=OldStatus.PENDING,
        invoice_id=made.id,
        created_at=now,
        updated_at=now,
        expires_at=now + EXPIRES_SECONDS * SECOND,
        source="redis",
    )
    shop.line.say("keep_old", old)
    return replace(case, session_id=id_, payment_id=str(shop.line.say("pay", made.id, "P2P")))


async def followed(shop: Shop, case: Case) -> Case:
    case = await in_the_old_shop(shop, case)
    await follow(shop, case)
    return case


async def spooled(shop: Shop, case: Case) -> Case:
    case = await paid(shop, case)
    await shop.desk.spooled(case.session_id, case.payment_id)
    return case


def invoice_request(sender_invoice_no: str) -> InvoiceRequest:
    """What somebody else asked QPay for."""
    return InvoiceRequest(
        sender_invoice_no=sender_invoice_no,
        receiver_code="terminal",
        description="",
        amount=AMOUNT,
        callback_url="http://127.0.0.1:9",
    )


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
    await Deliverer(shop.payments, Told(shop.line), owner=shop.shared.new_id(), chance=lambda: 0.5).once()


async def deliver_all(shop: Shop, case: Case) -> None:
    for _ in range(MOST_ROUNDS):
        shop.advance(HOUR_SECONDS)
        await deliver(shop, case)
        if not (await shop.store.stats(shop.shared.clock())).events_undelivered:
            return
    raise AssertionError("law 2: the outbox never comes to rest")


async def clean(shop: Shop, case: Case) -> None:  # noqa: ARG001 - one shape
    await cleaning.clean(shop.desk, KEEP, pause=turn)


async def turn() -> None:
    await asyncio.sleep(0)


async def sweep(shop: Shop, case: Case) -> None:  # noqa: ARG001 - one shape
    await Sweeper(shop.payments, owner=shop.shared.new_id()).once()


async def sweep_all(shop: Shop, case: Case) -> None:
    """What a sweeper does that looks again and again, until one sweep has seen everything."""
    for _ in range(MOST_ROUNDS):
        if (await shop.store.sweeps(1))[0].complete and await shop.store.by_payment(case.payment_id):
            return
        shop.advance(TROUBLE_SECONDS + 1)
        await sweep(shop, case)
    raise AssertionError("law 2: the sweep never comes to its end")


async def accept(shop: Shop, case: Case) -> None:
    await refunding.review(shop.desk, case.session_id, "accept", by=BY)


async def decline(shop: Shop, case: Case) -> None:
    await refunding.review(shop.desk, case.session_id, "refund", by=BY)


async def assign(shop: Shop, case: Case) -> None:
    await refunding.assign(shop.desk, case.payment_id, case.session_id, by=BY)


async def follow(shop: Shop, case: Case) -> None:  # noqa: ARG001 - one shape
    await Follower(shop.payments, owner=shop.shared.new_id()).once()


async def follow_and_hear(shop: Shop, case: Case) -> None:
    """Another follower, once the lease of the dead one has ended; then QPay calls."""
    shop.advance(FOLLOW_LEASE_SECONDS + 1)
    await follow(shop, case)
    await shop.callback(case)
    await shop.payments.stop()


async def replay(shop: Shop, case: Case) -> None:  # noqa: ARG001 - one shape
    await shop.replayer().once()


async def replay_all(shop: Shop, case: Case) -> None:
    """A replay that was told of a failure leaves its file to the next one."""
    assert shop.desk.spool
    for _ in range(MOST_ROUNDS):
        await replay(shop, case)
        if not await shop.desk.spool.waiting(1):
            return
        shop.advance(LEASE_SECONDS)
    raise AssertionError("law 2: the spool never comes to rest")


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


REVIEWED: Final = Setting.LATE_IS_REVIEWED
FOLLOWED: Final = Setting.OLD_SHOP_IS_FOLLOWED

HANDLERS: Final[dict[str, Handler]] = {
    "open": Handler(nothing, open_, ordered, reopen, promise=session_is_kept),
    "callback": Handler(paid, callback, ordered, callback, promise=hint_is_kept),
    "callback before the money shows": Handler(hidden, callback, ordered, callback, promise=hint_is_kept, finish=show),
    "worker at the deadline": Handler(overdue, work, ordered, callback),
    "worker on the ladder": Handler(hinted, work, ordered, callback),
    "worker, unpaid": Handler(unpaid_and_overdue, work, unpaid, work),
    "check": Handler(paid, check, ordered, callback),
    "outbox": Handler(settled, deliver, delivered, deliver, finish=deliver_all),
    "outbox, refused once": Handler(refused, deliver, delivered, deliver, finish=deliver_all),
    "cleanup": Handler(told, clean, blanked_or_whole, clean),
    "cleanup, invoice open": Handler(unpaid_long_ago, clean, closed_and_blanked, clean, finish=clean),
    "sweep": Handler(paid_unheard, sweep, swept, sweep, finish=sweep_all),
    "refund": Handler(paid_by_card, refund, given_back_once, refund, promise=refund_is_kept),
    "review, accept": Handler(held, accept, ordered, accept, finish=accept, setting=REVIEWED),
    "review, refund": Handler(held, decline, declined, decline, finish=decline, setting=REVIEWED),
    "assign": Handler(unmatched, assign, assigned, assign, finish=assign),
    "follow": Handler(in_the_old_shop, follow, ordered, follow, finish=follow_and_hear, setting=FOLLOWED),
    "callback of an old session": Handler(
        in_the_old_shop, callback, ordered, callback, finish=follow_and_hear, setting=FOLLOWED
    ),
    "callback of a followed session": Handler(
        followed, callback, ordered, callback, finish=follow_and_hear, setting=FOLLOWED
    ),
    "cancel": Handler(opened, cancel, cancelled, cancel),
    "cancel of what is paid": Handler(paid, cancel, paid_or_cancelled, cancel),
    "spool replay": Handler(spooled, replay, replayed, callback, finish=replay_all, spools=True),
}
