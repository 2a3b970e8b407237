"""What people at the shop do, with the commands and the console: refunds, reviews, payments without a session, sweeps.

A person asks until there is an answer, looks at QPay's portal before money goes back, and pays by hand only what was
requested under that name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from proving.faults import Fault
from proving.uses import Deed
from proving.world import START, Gone, World
from tulbur.core.refund import RefundState, RefundWay
from tulbur.core.session import SECOND, ExceptionName, Payment, Reason, Session
from tulbur.errors import StoreUnavailable, TulburError
from tulbur.payments import Payments, cleaning, refunding, sweeping
from tulbur.payments.certifying import prove
from tulbur.payments.delivering import replay_events
from tulbur.ports import Disposition, ListedPayment, PaymentQuery, SessionQuery, SweepRun

MOST_TRIES: Final = 40
LONGEST_WAIT_SECONDS: Final = 20.0
LONGEST_PAUSE_SECONDS: Final = 900.0
"""Between asking and paying, and between paying and saying so; all of it well within the hour that others wait."""

MOST_ROUNDS: Final = 30
HOUR: Final = 3600


async def insists(w: World, make: Callable[[Payments], Coroutine[Any, Any, Any]]) -> Any:  # noqa: ANN401 - any answer
    """Ask until there is an answer, which may be a refusal; an error is returned, not raised."""
    silence: Exception | None = None
    for _ in range(MOST_TRIES):
        try:
            return await w.ask(make)
        except (Gone, StoreUnavailable) as error:
            silence = error
        except TulburError as refusal:
            w.tell(f"a person is told: {refusal!r}")
            return refusal
        await asyncio.sleep(w.rng.uniform(1, LONGEST_WAIT_SECONDS))
    return silence


# --- money that goes back --------------------------------------------------------------------------------------------


async def gives_back(w: World, session_id: str) -> None:
    """Somebody wants a payment of this session to go back; now and then two do at once."""
    received = [p for p in w.oracle.stored(session_id).payments if p.received]
    if not received:
        return
    p = w.rng.choice(received)
    two = w.faults.fires(Fault.TWO_REFUND)
    part = w.rng.randrange(100, p.amount, 100) if w.rng.random() < 0.3 and p.amount > 100 else None
    starts = [0.0, w.rng.uniform(0, LONGEST_PAUSE_SECONDS)] if two else [0.0]
    await asyncio.gather(*(_later(seconds, give_back(w, session_id, p.id, part)) for seconds in starts))


async def _later(seconds: float, act: Coroutine[Any, Any, None]) -> None:
    await asyncio.sleep(seconds)
    await act


async def give_back(w: World, session_id: str, payment_id: str, amount: int | None = None) -> None:
    """One person gives one payment back: QPay does it, or the person, who then names a reference."""
    if w.oracle.books.is_refunded(payment_id):
        await looks(w, session_id)
        known = w.oracle.stored(session_id).payment(payment_id)
        if w.faults.calm and known is not None and known.status != "REFUNDED" and known.refund is None:
            # It is on another session's invoice, so nothing tells of it here but the portal.
            await insists(w, lambda ps: refunding.close(ps.desk, payment_id, reference="portal", by="clerk"))
        return
    by, key = f"clerk {w.new_id()[-6:]}", f"{w.new_id()}:body"
    await insists(
        w, lambda ps: refunding.refund(ps.desk, session_id, payment_id, amount=amount, note="буцаалт", by=by, key=key)
    )
    await asyncio.sleep(w.rng.uniform(1, LONGEST_PAUSE_SECONDS))
    p = w.oracle.stored(session_id).payment(payment_id)
    if p is None or not _is_mine(p, by):
        return
    assert p.refund is not None
    with w.oracle.judging(payment_id):
        w.oracle.books.pays(payment_id, p.refund.amount)
    reference = f"transfer {w.new_id()[-6:]}"
    w.tell(f"{by} pays {p.refund.amount} of {payment_id} back by hand: {reference}")
    await asyncio.sleep(w.rng.uniform(1, LONGEST_PAUSE_SECONDS))
    await insists(w, lambda ps: refunding.refund(ps.desk, session_id, payment_id, reference=reference, by=by))


def _is_mine(p: Payment, by: str) -> bool:
    refund = p.refund
    return (
        refund is not None
        and refund.by == by
        and (refund.way, refund.state) == (RefundWay.PERSON, RefundState.REQUESTED)
    )


async def refunds_at_portal(w: World, payment_id: str) -> None:
    """Somebody gives a payment back in QPay's own portal, and tells nobody."""
    w.oracle.books.at_portal.add(payment_id)
    w.qpay.refund_at_portal(payment_id)


async def looks(w: World, session_id: str) -> None:
    await insists(w, lambda ps: ps.check(session_id, Reason.OPERATOR))


# --- decisions -------------------------------------------------------------------------------------------------------


async def decides(w: World, session_id: str) -> None:
    """Somebody reviews the session; now and then two do at once, and not alike."""
    two = w.faults.fires(Fault.TWO_REVIEW)
    await asyncio.gather(*(review(w, session_id, _decision(w)) for _ in range(2 if two else 1)))


async def review(w: World, session_id: str, decision: str) -> Any:  # noqa: ANN401 - a session or a refusal
    by = f"clerk {w.new_id()[-6:]}"
    return await insists(w, lambda ps: refunding.review(ps.desk, session_id, decision, note="шийдвэр", by=by))


def _decision(w: World) -> str:
    return w.rng.choice(("accept", "refund"))


async def assigns(w: World, session_id: str) -> None:
    """Somebody gives a payment without a session to this one, or is done with it otherwise."""
    rows = [r for r in w.data.payments.values() if r["session_id"] is None and r["closed_at"] is None and r["amount"]]
    if rows:
        await place(w, w.rng.choice(rows)["payment_id"], [session_id])


async def place(w: World, payment_id: str, session_ids: Sequence[str]) -> None:
    """Assign a payment to one of some sessions, or close it with a reference."""
    by = f"clerk {w.new_id()[-6:]}"
    if session_ids and w.rng.random() < 0.5:
        session_id = w.rng.choice(session_ids)
        done = await insists(w, lambda ps: refunding.assign(ps.desk, payment_id, session_id, note="", by=by))
        if isinstance(done, Session):
            return
    reference = f"settled {w.new_id()[-6:]}"
    done = await insists(w, lambda ps: refunding.close(ps.desk, payment_id, reference=reference, by=by))
    if not isinstance(done, Exception):
        w.oracle.did(Deed.CLOSED)


# --- sweeps, certificates, retention, events -------------------------------------------------------------------------


async def sweeps(w: World) -> list[SweepRun]:
    """The operator sweeps the whole time, or recovers from a failover. Said to be all, it has to be."""
    start, recovers = START - HOUR * SECOND, w.rng.random() < 0.2
    if recovers:
        done = await insists(w, lambda ps: sweeping.recover(ps.desk, start))
        return [] if isinstance(done, Exception) else list(done[0])
    done = await insists(w, lambda ps: sweeping.sweep(ps.desk, start, ps.desk.clock() + SECOND, sweeping.OPERATOR))
    return [] if isinstance(done, Exception) else list(done)


async def proves(w: World) -> None:
    """A certificate while things happen: where it says proven, it lists no less and no more than QPay had."""
    start, end = START - HOUR * SECOND, w.clock() + 400 * SECOND
    before = w.visible()
    certificate = await insists(w, lambda ps: prove(ps.desk, start, end))
    if isinstance(certificate, Exception):
        return
    w.oracle.did(Deed.PROVEN if certificate.proven else Deed.UNPROVEN)
    if certificate.proven:
        with w.oracle.judging("certificate"):
            known = sum((p.paid_at or 0) < end for p in before.values())
            assert known <= certificate.payments <= len(w.visible()), "law 9: a certificate that says proven lists all"


async def cleans(w: World) -> None:
    async def pause() -> None:
        await asyncio.sleep(0.2)

    await insists(w, lambda ps: cleaning.clean(ps.desk, w.keep, pause=pause))


async def replays(w: World, *, parked_only: bool) -> None:
    """Events go to the shop again: all of them, or those that nobody tries any more."""
    until = w.clock() + 400 * SECOND
    await insists(
        w, lambda ps: replay_events(ps.desk.store, since=START - HOUR * SECOND, before=until, parked_only=parked_only)
    )


# --- the list of work ------------------------------------------------------------------------------------------------


async def work_through(w: World, rest: Callable[[], Awaitable[None]]) -> bool:
    """Somebody does what the list of work says until it is empty; False when it never is."""
    for _ in range(MOST_ROUNDS):
        listed = [(kind, row) for kind in Disposition for row in await w.store.payments(PaymentQuery(disposition=kind))]
        unseen = await w.store.find(SessionQuery(exception=ExceptionName.REFUND_UNCONFIRMED))
        if not (listed or unseen):
            return True
        for kind, row in listed:
            await _deal_with(w, kind, row)
        for session in unseen:
            for p in session.payments:
                if p.refund is not None and p.refund.state is RefundState.UNCONFIRMED:
                    await give_back(w, session.id, p.id, p.refund.amount)
        await asyncio.sleep(HOUR + 600)  # another's request is not young any more
        await rest()
    return False


async def _deal_with(w: World, kind: Disposition, row: ListedPayment) -> None:
    if kind is Disposition.UNMATCHED:
        if row.amount is not None:
            await place(w, row.payment_id, list(w.data.sessions))
        return
    session_id = str(row.session_id)
    session = w.oracle.stored(session_id)
    if kind is Disposition.HELD:
        accepts = session.blanked_at is None and w.rng.random() < 0.5
        if not accepts or isinstance(await review(w, session_id, "accept"), Exception):
            await review(w, session_id, "refund")
        return
    await give_back(w, session_id, row.payment_id)
