"""The kill table: every use case dies, fails or loses an answer at each call of a port, and nothing is lost or doubled.

After the fault the process is gone; another one on the same database works off what is due, with QPay's callback sent
once more or not. A table ends with the first run whose fault finds no call to strike, so every call has been struck.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest
from tests.payments.world import Clock

from proving.killing import CREATE_INVOICE, Fault, Killer, Process, Shop, SmallQPay, ended
from tulbur.core.session import ExceptionName, Reason, Session, Status
from tulbur.errors import AlreadyPaid, Conflict, ProviderUnavailable, StoreUnavailable
from tulbur.stores.memory import MemoryStore
from tulbur.stores.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

MOST_CALLS = 60
"""More than any use case makes; a table that does not end by then is a use case without a bound."""

SCHEDULES = 100

AFTER = (Fault.KILLED_AFTER, Fault.LOST)
"""Faults for pairs: dying before a call differs from dying after the last one in nothing that is stored."""

Act: TypeAlias = Callable[[Shop, Process, str], Awaitable[object]]


@pytest.fixture(params=["memory", "sqlite"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    clock = Clock()
    store = MemoryStore(clock) if request.param == "memory" else SqliteStore(tmp_path / "t.db", clock)
    await store.start()
    yield Shop(store, clock, SmallQPay(clock))
    await store.stop()


def memory_shop() -> Shop:
    clock = Clock()
    return Shop(MemoryStore(clock), clock, SmallQPay(clock))


async def table(run: Callable[[Killer], Awaitable[None]], faults: tuple[Fault, ...] = tuple(Fault)) -> None:
    for fault in faults:
        for at in range(1, MOST_CALLS):
            killer = Killer(at, fault)
            try:
                await run(killer)
            except AssertionError as wrong:
                wrong.add_note(f"call {at}, {killer.struck}: {fault}")
                raise
            if not killer.struck:
                assert at > 1, "nothing was struck"
                break
        else:
            raise AssertionError("the use case has no end")


# --- money that is at QPay already -----------------------------------------------------------------------------------


async def paid_session(shop: Shop) -> str:
    session = await shop.process().open(expires_in=600)
    shop.qpay.pay(str(session.attempts[0].id))
    return session.id


async def paid_in_two_parts(shop: Shop) -> str:
    session = await shop.process().open(expires_in=600)
    for amount in (2_000_000, 3_000_000):
        shop.qpay.pay(str(session.attempts[0].id), amount)
    return session.id


async def paid_late(shop: Shop) -> str:
    session = await shop.process().open(expires_in=600)
    await shop.at_rest(session.id)
    shop.qpay.pay(str(session.attempts[0].id))
    return session.id


async def paid_on_an_invoice_whose_id_was_lost(shop: Shop) -> str:
    lost = Killer(CREATE_INVOICE, Fault.LOST)
    failed = await ended(shop.process(lost).open(expires_in=600))
    assert isinstance(failed, ProviderUnavailable), lost.struck
    shop.qpay.pay(list(shop.qpay.bills)[-1])
    return str(failed.session_id)


async def callback(shop: Shop, process: Process, session_id: str) -> None:
    (bill,) = shop.bills(await shop.stored(session_id))
    await process.payments.callback(session_id, bill.payments[0].id)
    stored = await shop.stored(session_id)
    assert stored.hints or stored.orders, "law 5: SUCCESS is a promise"


async def look_at_the_deadline(shop: Shop, process: Process, session_id: str) -> None:
    shop.clock.now = max(shop.clock.now, (await shop.stored(session_id)).expires_at)
    await process.worker.once()


async def look_of_the_ladder(shop: Shop, process: Process, session_id: str) -> None:
    (bill,) = shop.bills(await shop.stored(session_id))
    bill.hidden = True
    await callback(shop, shop.process(), session_id)
    bill.hidden = False
    shop.clock.advance(61)
    await process.worker.once()


async def check(shop: Shop, process: Process, session_id: str) -> None:
    await process.payments.check(session_id, Reason.OPERATOR)


async def cancel(shop: Shop, process: Process, session_id: str) -> None:
    await process.payments.cancel(session_id)


STORIES: dict[str, Callable[[Shop], Awaitable[str]]] = {
    "in two parts": paid_in_two_parts,
    "late": paid_late,
    "on an invoice whose id was lost": paid_on_an_invoice_whose_id_was_lost,
}

ACTS: dict[str, Act] = {
    "callback": callback,
    "look at the deadline": look_at_the_deadline,
    "look of the ladder": look_of_the_ladder,
    "check": check,
    "cancel": cancel,
}


@pytest.mark.parametrize("name", ACTS)
async def test_a_paid_session_is_ordered_wherever_its_process_ends(shop: Shop, name: str) -> None:
    async def run(killer: Killer, *, redelivered: bool) -> None:
        session_id = await paid_session(shop)
        process = shop.process(killer)
        await ended(ACTS[name](shop, process, session_id))
        await process.payments.stop()
        if redelivered:
            await callback(shop, shop.process(), session_id)
        rested = await shop.at_rest(session_id)
        assert rested.status is Status.PAID
        assert rested.exceptions <= {ExceptionName.LATE}, "late by first sight, where QPay's date was not to be had"

    on_disk = isinstance(shop.store, SqliteStore)  # where a run takes ten times as long
    await table(lambda killer: run(killer, redelivered=False), AFTER if on_disk else tuple(Fault))
    await table(lambda killer: run(killer, redelivered=True), (Fault.LOST,) if on_disk else tuple(Fault))


@pytest.mark.parametrize("name", ACTS)
async def test_a_second_fault_during_recovery_loses_nothing_either(name: str) -> None:
    async def run(first: Killer, second: Killer) -> None:
        shop = memory_shop()
        session_id = await paid_session(shop)
        for act, killer in ((ACTS[name], first), (callback, second)):
            process = shop.process(killer)
            await ended(act(shop, process, session_id))
            await process.payments.stop()
        assert (await shop.at_rest(session_id)).status is Status.PAID

    async def all_seconds(first: Killer) -> None:
        for fault in AFTER:
            for at in range(1, MOST_CALLS):
                again, second = Killer(first.at, first.fault), Killer(at, fault)
                await run(again, second)
                first.struck = again.struck
                if not second.struck:
                    break

    await table(all_seconds, AFTER)


@pytest.mark.parametrize("story", STORIES)
async def test_unusual_money_is_ordered_wherever_its_callback_ends(shop: Shop, story: str) -> None:
    async def run(killer: Killer) -> None:
        session_id = await STORIES[story](shop)
        process = shop.process(killer)
        await ended(callback(shop, process, session_id))
        await process.payments.stop()
        if not (await shop.stored(session_id)).hints:  # only then QPay, which never heard SUCCESS, calls again
            await callback(shop, shop.process(), session_id)
        rested = await shop.at_rest(session_id)
        assert rested.status is Status.PAID
        assert rested.exceptions == ({ExceptionName.LATE} if story == "late" else frozenset())

    await table(run)


# --- a checkout that opens, and its payer ----------------------------------------------------------------------------


async def test_an_opening_goes_on_wherever_its_process_ends(shop: Shop) -> None:
    async def run(killer: Killer) -> None:
        key = f"{killer.fault} {killer.at}"
        first = await ended(shop.process(killer).open(idempotency_key=key))
        shop.clock.advance(31)
        session = await shop.process().open(idempotency_key=key)
        assert session.payable
        assert session.payable.qr_text
        if isinstance(first, Session) and first.payable:
            assert session.payable.id == first.payable.id, "one QR is shown"
        shop.qpay.pay(str(session.payable.id))
        assert (await shop.at_rest(session.id)).status is Status.PAID

    await table(run)


async def test_a_second_attempt_goes_on_wherever_its_process_ends(shop: Shop) -> None:
    async def run(killer: Killer) -> None:
        key = f"{killer.fault} {killer.at}"
        lost = Killer(CREATE_INVOICE, Fault.LOST)
        await ended(shop.process(lost).open(idempotency_key=key))
        assert lost.struck == "provider.create_invoice"
        second = await ended(shop.process(killer).open(idempotency_key=key))
        shop.clock.advance(31)
        session = await shop.process().open(idempotency_key=key)
        assert session.payable
        if isinstance(second, Session) and second.payable:
            assert session.payable.id == second.payable.id, "one QR is shown"
        shop.qpay.pay(str(session.payable.id))
        assert (await shop.at_rest(session.id)).status is Status.PAID

    await table(run)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_without_a_session_that_is_surely_stored_qpay_makes_no_invoice(fault: Fault) -> None:
    shop, killer = memory_shop(), Killer(1, fault)
    with pytest.raises(StoreUnavailable):
        await shop.process(killer).open()
    assert (killer.struck, shop.qpay.bills) == ("store.add", {})


@pytest.mark.parametrize("pays", [True, False])
async def test_a_cancellation_ends_wherever_its_process_ends(shop: Shop, pays: bool) -> None:
    async def run(killer: Killer) -> None:
        session = await shop.process().open(expires_in=600)
        await ended(shop.process(killer).payments.cancel(session.id))
        for bill in shop.open_bills(session) if pays else ():
            shop.qpay.pay(bill.id)
        again = await ended(shop.process().payments.cancel(session.id))
        rested = await shop.at_rest(session.id)
        if isinstance(again, Session):
            assert rested.status is Status.CANCELLED
        else:
            assert isinstance(again, AlreadyPaid | Conflict)
            assert rested.status is Status.PAID

    await table(run)


async def test_an_unpaid_session_ends_wherever_a_process_ends(shop: Shop) -> None:
    async def run(killer: Killer) -> None:
        session = await shop.process().open(expires_in=60)
        await ended(look_at_the_deadline(shop, shop.process(killer), session.id))
        assert (await shop.at_rest(session.id)).status is Status.EXPIRED

    await table(run)


# --- everything at once ----------------------------------------------------------------------------------------------


async def test_everything_at_once_in_any_order_makes_one_order_set() -> None:
    for seed in range(SCHEDULES):
        await schedule(memory_shop(), Random(seed))


async def schedule(shop: Shop, chance: Random) -> None:
    """Two processes do everything to one session while a payer pays, each call taking its own time; one may die."""
    killers = [Killer(chance.randrange(1, 40), chance.choice(list(Fault)), pace=chance) for _ in range(2)]
    processes = [shop.process(killer) for killer in killers]
    key = f"seed {chance.random()}"
    opened = await shop.process().open(idempotency_key=key, expires_in=60)
    shop.clock.advance(chance.choice([0, 58, 61]))

    async def payer() -> None:
        await pause(chance)
        for bill in shop.open_bills(opened):
            shop.qpay.pay(bill.id)
            await pause(chance)
            await chance.choice(processes).payments.callback(opened.id, bill.payments[0].id)

    async def acts(process: Process) -> None:
        names = chance.sample(["check", "cancel", "worker", "open", "callback"], 3)
        for name in names:
            await pause(chance)
            shop.clock.advance(chance.choice([0, 0, 3, 10, 25]))
            if name == "open":
                await ended(process.open(idempotency_key=key, expires_in=60))
            elif name == "worker":
                await ended(process.worker.once())
            elif name == "callback":
                await ended(process.payments.callback(opened.id, ""))
            else:
                await ended(ACTS[name](shop, process, opened.id))

    await asyncio.gather(ended(payer()), *(ended(acts(p)) for p in (*processes, *processes)))
    await asyncio.gather(*(p.payments.stop() for p in processes))
    (bill,) = shop.bills(opened)
    if bill.payments:
        await ended(shop.process().payments.callback(opened.id, bill.payments[0].id))
    rested = await shop.at_rest(opened.id)
    assert rested.status is Status.PAID or not bill.payments


async def pause(chance: Random) -> None:
    for _ in range(chance.randrange(12)):
        await asyncio.sleep(0)
