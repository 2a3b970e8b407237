"""What the database must hold when all has come to rest: the laws for everything, and what each handler was for."""

from __future__ import annotations

from typing import Final

from proving.crash.shop import Case, Shop, surely
from proving.laws import check_facts
from proving.qpay import Bill
from tulbur.core.session import PUBLIC_EVENTS, SECOND, ExceptionName, InvoiceState, Session, Status

MOST_ROUNDS: Final = 60
REST_SECONDS: Final = 86_400


async def at_rest(shop: Shop, case: Case) -> list[Session]:
    """Let the worker do all that is due within a day; every session of the case as it is then."""
    end = shop.shared.clock() + REST_SECONDS * SECOND
    for _ in range(MOST_ROUNDS):
        found = await surely(lambda: shop.sessions(case))
        due = [s.next_check_at for s in found if s.next_check_at is not None]
        if not due:
            break
        shop.shared.move_to(max(shop.shared.clock(), min(due)) + 61 * SECOND)  # and a lease has ended
        assert shop.shared.clock() < end, "law 2: nothing waits without an end"
        await surely(shop.worker.once)
        await shop.payments.stop()
    await surely(shop.worker.once)
    return await surely(lambda: shop.sessions(case))  # type: ignore[no-any-return]


async def judge(shop: Shop, case: Case, sessions: list[Session]) -> tuple[int, int]:
    """The laws that hold whatever was done; how many orders and numbered events there are now."""
    bills = shop.state()[0]
    assert len(sessions) <= 1, "law 1: one session for one key"
    orders = 0
    numbers: list[int] = []
    for session in sessions:
        await _judge_one(shop, session, bills)
        orders += len(session.orders)
    published = await shop.store.events(case.before[1], 200)
    for session in sessions:
        history = await shop.store.history(session.id, 200)
        public = [event.id for event in history if event.type in PUBLIC_EVENTS]
        told = [one.event.id for one in published if one.session_id == session.id]
        assert told == public, "law 6: each public event is numbered, once and in order"
    numbers = [one.no for one in published]
    assert numbers == list(range(case.before[1] + 1, case.before[1] + 1 + len(numbers))), "the numbers have no gap"
    stats = await shop.store.stats(shop.shared.clock())
    assert stats.orders == case.before[0] + orders, "law 1: one order set"
    assert stats.checks_due == 0, "law 2: nothing is left to look at"
    return stats.orders, case.before[1] + len(numbers)


async def _judge_one(shop: Shop, session: Session, bills: dict[str, Bill]) -> None:
    check_facts(session)
    assert session.next_check_at is None, "law 2: it came to rest"
    ours = {attempt.sender_invoice_no for attempt in session.attempts}
    own = [bill for bill in bills.values() if bill.request.sender_invoice_no in ours]
    given = {p.id for p in session.payments if p.assigned_by}
    received = {
        p.id: (p.status, p.amount) for bill in bills.values() for p in bill.payments if bill in own or p.id in given
    }
    known = {p.id: (p.status, p.amount) for p in session.payments}
    assert known == received, "law 9: every tugrik QPay has is accounted for"
    history = await shop.store.history(session.id, 200)
    types = [event.type for event in history]
    refused = any(event.type == "session.reviewed" and event.data["decision"] == "refund" for event in history)
    if sum(amount for status, amount in received.values() if status == "PAID") >= session.amount:
        assert session.status is Status.PAID or refused, "law 2: paid means ordered, unless a person said otherwise"
    assert types.count("session.paid") == (session.status is Status.PAID), "law 1: one order set"
    assert types.count("order.created") == len(session.orders)
    for order in session.orders:
        assert await shop.store.order(order.id) == (session.id, order), "law 6: one transaction"


# --- what each handler was for


async def ordered(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    """Where money came, there are orders; the payer of a session nobody was told of has not seen an invoice."""
    del case, again
    if not any(bill.payments for bill in shop.state()[0].values()):
        assert all(session.status is Status.EXPIRED for session in sessions)
        return
    (session,) = sessions
    assert (session.status, len(session.orders)) == (Status.PAID, 2), "law 2: paid means ordered"
    assert session.exceptions <= {ExceptionName.LATE}, "late by first sight, where nobody told of it in time"


async def replayed(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    await ordered(shop, case, sessions, again)
    (session,) = sessions
    hints = {hint.payment_id for hint in session.hints}
    assert case.payment_id in hints, "law 5: what the spool held is in the database"
    assert shop.desk.spool
    assert not await shop.desk.spool.waiting(1), "the spool is empty"


async def unpaid(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    del shop, case, again
    (session,) = sessions
    assert session.status is Status.EXPIRED, "law 2: pending ends at its deadline"


async def delivered(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    del again
    (session,) = sessions
    heard = shop.state()[2]
    first = list(dict.fromkeys(id_ for _, id_ in heard))
    public = [event.id for event in await shop.store.history(session.id, 200) if event.type in PUBLIC_EVENTS]
    assert first == public, "every event is delivered at least once, in order"
    assert len({*heard}) == len(first), "an event keeps its number"
    stats = await shop.store.stats(shop.shared.clock())
    assert stats.events_undelivered == 0
    assert (session.status, len(session.orders)) == (Status.PAID, 2)
    del case


async def blanked_or_whole(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    (session,) = sessions
    assert (session.status, len(session.orders)) == (Status.PAID, 2), "what is blanked keeps its orders"
    assert bool(session.blanked_at) == (not session.items), "blanked as a whole, or not at all"
    assert session.blanked_at or not again, "cleaning up comes to its end"
    await _blanked_once(shop, session)
    del case


async def closed_and_blanked(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    del case, again
    (session,) = sessions
    assert session.status is Status.EXPIRED
    assert session.blanked_at, "cleaning up comes to its end"
    assert not session.items
    assert [attempt.state for attempt in session.attempts] == [InvoiceState.CANCELLED]
    assert all(bill.cancelled for bill in shop.state()[0].values()), "nobody can pay for a cart that is gone"
    await _blanked_once(shop, session)


async def _blanked_once(shop: Shop, session: Session) -> None:
    types = [event.type for event in await shop.store.history(session.id, 200)]
    assert types.count("session.blanked") == bool(session.blanked_at)


async def swept(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    await ordered(shop, case, sessions, again)
    (run,) = await shop.store.sweeps(1)
    assert run.complete, "what was swept is on record"


async def declined(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    del again
    (session,) = sessions
    payment = session.payment(case.payment_id)
    assert payment is not None
    assert (session.status, session.orders) == (Status.EXPIRED, ())
    assert (payment.held, payment.refund_due) == (0, payment.amount), "law 9: it is due back"
    types = [event.type for event in await shop.store.history(session.id, 200)]
    assert types.count("session.reviewed") == 1, "a decision counts once"


async def assigned(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    await ordered(shop, case, sessions, again)
    payment = sessions[0].payment(case.payment_id)
    assert payment is not None
    assert payment.assigned_by
    assert await shop.store.unmatched_payment(case.payment_id) is None, "law 1: a payment counts once"


async def given_back_once(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    del again
    (session,) = sessions
    given = shop.state()[1]
    payment = session.payment(case.payment_id)
    assert payment is not None
    assert len(given) <= 1, "law 1: money goes back once"
    assert (payment.status == "REFUNDED") == bool(given)
    assert payment.refunds or not given, "QPay was asked for what was committed first"
    if payment.refunds and not given:
        assert ExceptionName.REFUND_UNCONFIRMED in session.exceptions, "law 2: a named exception"
    assert len(session.orders) == 2, "a refund takes no order back"


async def cancelled(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    del case
    (session,) = sessions
    assert session.status in (Status.CANCELLED, Status.EXPIRED)
    assert session.status is Status.CANCELLED or not (again or shop.shared.promised)


async def paid_or_cancelled(shop: Shop, case: Case, sessions: list[Session], again: bool) -> None:
    del shop, case, again
    (session,) = sessions
    assert session.status is Status.PAID, "law 2: what was paid before it was cancelled is ordered"
