"""Callbacks that never came: the list, read as politely as completely, and every payment brought to its session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.payments.conftest import STORES, empty_store_on
from tests.payments.world import Clock

from proving.killing import CREATE_INVOICE, Fault, Killer, Shop, ended, foreign_bill
from proving.qpay import SmallQPay
from tulbur.core.schedule import BUDGETS, DAY, MOST_HINTS
from tulbur.core.session import SECOND, Micros, Reason, Session, Status
from tulbur.core.settling import InvoiceAnswer, SeenPayment
from tulbur.errors import ProviderUnavailable, StoreUnavailable
from tulbur.links import Links
from tulbur.payments.listing import MOST_PAGES, read
from tulbur.payments.matching import LOOKS_SECONDS
from tulbur.payments.refunding import close
from tulbur.payments.sweeping import by_itself, sweep
from tulbur.ports import PaymentPage
from tulbur.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

HOUR = 3600 * SECOND


@pytest.fixture(params=STORES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    clock = Clock()
    store = await empty_store_on(request, tmp_path, clock)
    await store.start()
    yield Shop(store, clock, SmallQPay(clock))
    await store.stop()


def memory_shop() -> Shop:
    clock = Clock()
    return Shop(MemoryStore(clock), clock, SmallQPay(clock))


async def expired_session(shop: Shop) -> str:
    """A session past its deadline, about which nobody asks any more."""
    session = await shop.process().open(expires_in=600)
    await shop.at_rest(session.id)
    assert (await shop.stored(session.id)).status is Status.EXPIRED
    return session.id


async def late(shop: Shop) -> str:
    """Money after the deadline, whose callback is lost."""
    session_id = await expired_session(shop)
    shop.clock.advance(90 * 86_400)
    shop.qpay.pay(str((await shop.stored(session_id)).attempts[0].id))
    return session_id


async def swept(shop: Shop, killer: Killer | None = None, hours: int = 2) -> None:
    now = shop.clock()
    await sweep(shop.process(killer).payments.desk, now - hours * HOUR, now + SECOND, "operator")


# --- what a sweep finds ----------------------------------------------------------------------------------------------


async def test_late_money_whose_callback_is_lost_becomes_orders(shop: Shop) -> None:
    session_id = await late(shop)
    await swept(shop)
    session = await shop.at_rest(session_id)
    assert session.status is Status.PAID
    assert len(session.orders) == 2
    (run,) = await shop.store.sweeps(1)
    assert (run.report["listed"], run.report["settled"], run.report["seen"]) == (1, 1, "all")


async def test_a_second_sweep_asks_nothing_more(shop: Shop) -> None:
    session_id = await late(shop)
    await swept(shop)
    before, calls = await shop.stored(session_id), len(shop.qpay.calls)
    await swept(shop)
    assert await shop.stored(session_id) == before
    assert shop.qpay.calls[calls:] == ["list_payments"]


async def test_an_invoice_whose_answer_was_lost_is_found_by_its_number(shop: Shop) -> None:
    process = shop.process(Killer(CREATE_INVOICE, Fault.LOST))
    await ended(process.open(expires_in=600))
    (bill,) = shop.qpay.bills.values()
    session = await shop.store.by_sender(bill.request.sender_invoice_no)
    assert session is not None
    assert session.attempts[0].id is None
    shop.qpay.pay(bill.id)
    await swept(shop)
    assert (await shop.at_rest(session.id)).status is Status.PAID


async def test_foreign_payments_are_counted_and_nothing_else(shop: Shop) -> None:
    payment_id = foreign_bill(shop)
    await swept(shop)
    (run,) = await shop.store.sweeps(1)
    assert (run.report["foreign"], run.report["unmatched_ids"], run.complete or run.report["seen"]) == (1, [], "all")
    assert await shop.store.unmatched_payment(payment_id) is None


async def test_our_invoice_without_a_session_is_named(shop: Shop) -> None:
    process = shop.process()
    payment_id = foreign_bill(shop, process.payments.desk.links.sender_invoice_no("gone1"))
    now = shop.clock()
    await sweep(process.payments.desk, now - HOUR, now + SECOND, "recover")
    row = await shop.store.unmatched_payment(payment_id)
    assert row is not None
    assert (row.amount, row.status) == (100_00, "PAID")
    assert process.heard.lost == [("", payment_id)]
    await swept(shop)
    assert len(await shop.store.unmatched(10)) == 1


async def test_money_that_somebody_is_done_with_is_not_named_again(shop: Shop) -> None:
    desk = shop.process().payments.desk
    payment_id = foreign_bill(shop, desk.links.sender_invoice_no("gone1"))
    await swept(shop)
    await close(desk, payment_id, reference="KHAN-1", by="bold")
    shop.clock.advance(1)
    await swept(shop)
    after, before = await shop.store.sweeps(2)
    assert (before.report["gone"], before.report["unmatched_ids"]) == (1, [payment_id])
    assert (after.report["gone"], after.report["unmatched_ids"]) == (1, [])


async def test_a_number_that_only_looks_like_ours_is_foreign(shop: Shop) -> None:
    foreign_bill(shop, "TBgone100000000")
    foreign_bill(shop, Links("http://x", ["another-key-0123456789abcdef-0123456789"]).sender_invoice_no("a"))
    await swept(shop)
    (run,) = await shop.store.sweeps(1)
    assert run.report["foreign"] == 2


async def test_a_refund_made_at_qpay_is_seen(shop: Shop) -> None:
    session_id = await late(shop)
    await swept(shop)
    (bill,) = shop.bills(await shop.stored(session_id))
    bill.payments[0] = replace(bill.payments[0], status="REFUNDED")
    await swept(shop)
    session = await shop.stored(session_id)
    assert session.payments[0].status == "REFUNDED"
    assert session.status is Status.PAID


class Forgetful(SmallQPay):
    """Its `check` shows only what is paid; what was given back the payment itself tells."""

    async def check(self, invoice_id: str) -> InvoiceAnswer:
        answer = await super().check(invoice_id)
        return replace(answer, payments=tuple(p for p in answer.payments if p.status != "REFUNDED"))


async def test_a_refund_that_only_list_and_payment_show_is_seen(shop: Shop) -> None:
    shop.qpay = Forgetful(shop.clock)
    session_id = await late(shop)
    await swept(shop)
    (bill,) = shop.bills(await shop.stored(session_id))
    given_back = replace(bill.payments[0], status="REFUNDED")
    shop.clock.advance(60)
    early = replace(shop.process().payments.desk, provider=Listed(shop.qpay, [given_back]))
    await sweep(early, shop.clock() - HOUR, shop.clock(), "operator")
    (run,) = await shop.store.sweeps(1)
    assert (run.report["settled"], run.report["waiting"], run.report["unmatched_ids"]) == (0, 1, [])
    bill.payments[0] = given_back
    shop.clock.advance(60)
    await swept(shop)
    (run,) = await shop.store.sweeps(1)
    assert (run.report["settled"], run.report["waiting"]) == (1, 0)
    session = await shop.stored(session_id)
    assert (session.payments[0].status, session.status) == ("REFUNDED", Status.PAID)


async def test_what_qpay_lists_but_does_not_show_yet_is_looked_for_again(shop: Shop) -> None:
    session_id = await late(shop)
    (bill,) = shop.bills(await shop.stored(session_id))
    page = await shop.qpay.list_payments(shop.clock() - HOUR, shop.clock())
    bill.hidden = True
    process = shop.process()
    listed = Listed(shop.qpay, list(page.payments))
    process.payments.desk = replace(process.payments.desk, provider=listed)
    await sweep(process.payments.desk, shop.clock() - HOUR, shop.clock() + SECOND, "operator")
    assert (await shop.stored(session_id)).status is Status.EXPIRED
    bill.hidden = False
    shop.clock.advance(20)
    await shop.process().worker.once()
    assert (await shop.stored(session_id)).status is Status.PAID


async def test_a_session_is_asked_about_within_its_budget(shop: Shop) -> None:
    session_id = await late(shop)
    page = await shop.qpay.list_payments(shop.clock() - HOUR, shop.clock())
    (bill,) = shop.bills(await shop.stored(session_id))
    bill.hidden = True
    process = shop.process()
    desk = replace(process.payments.desk, provider=Listed(shop.qpay, list(page.payments)))
    for _ in range(BUDGETS[Reason.SWEEP] + 8):
        await sweep(desk, shop.clock() - HOUR, shop.clock() + SECOND, "operator")
        shop.clock.advance(30)
    assert process.heard.asks.count(Reason.SWEEP) == BUDGETS[Reason.SWEEP]


# --- the list --------------------------------------------------------------------------------------------------------


@dataclass
class Listed:
    """QPay, whose list is what a test says; `before` may change it in front of each request."""

    qpay: SmallQPay | None
    rows: list[SeenPayment] = field(default_factory=list)
    before: Callable[[int], None] = lambda _number: None
    fails_from: int = 1_000_000
    most: int = 1_000_000
    tells_total: bool = True
    unreadable: bool = False
    asked: int = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.qpay, name)

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        self.asked += 1
        self.before(self.asked)
        if self.asked >= self.fails_from:
            raise ProviderUnavailable
        seconds = range(start // SECOND, end // SECOND + 1)
        shown = [p for p in self.rows if (p.paid_at or 0) // SECOND in seconds][: self.most]
        rows = tuple(shown[(page - 1) * 100 : page * 100])
        total = len(shown) if self.tells_total else None
        return PaymentPage(payments=rows, complete=not self.unreadable, more=len(rows) == 100, total=total)


def rows(count: int, seconds: int = 86_400) -> list[SeenPayment]:
    """Payments spread over a day, the newest first."""
    return [
        SeenPayment(id=f"p-{n}", amount=100, currency="MNT", status="PAID", paid_at=n * seconds // count * SECOND)
        for n in reversed(range(count))
    ]


@pytest.mark.parametrize("tells_total", [True, False])
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 200, 1_001, 2_000, 2_001, 12_345])
async def test_every_row_is_read(count: int, tells_total: bool) -> None:
    qpay = Listed(None, rows(count), tells_total=tells_total)
    listing = await read(qpay, 0, DAY)
    assert (len(listing.payments), listing.trouble) == (count, "")
    assert listing.pages == qpay.asked <= 4 * (count // 100 + 1) + MOST_PAGES


async def test_rows_that_shift_while_they_are_read_are_read_again() -> None:
    """Between two pages a payment in front of them vanishes, and one row slips from page 2 to page 1 unseen."""
    qpay = Listed(None, rows(250))
    gone: list[SeenPayment] = []

    def vanish(number: int) -> None:
        if number == 2:
            gone.append(qpay.rows.pop(0))

    qpay.before = vanish
    listing = await read(qpay, 0, DAY)
    assert listing.complete
    assert set(listing.payments) == {p.id for p in (*qpay.rows, *gone)}
    assert gone


async def test_payments_that_come_while_it_is_read_push_nothing_out() -> None:
    qpay = Listed(None, rows(450))

    def pay(number: int) -> None:
        if number < 20:
            qpay.rows.insert(0, replace(qpay.rows[0], id=f"new-{number}", paid_at=DAY - SECOND))

    qpay.before = pay
    listing = await read(qpay, 0, DAY)
    assert listing.complete
    assert {f"p-{n}" for n in range(450)} <= set(listing.payments)


async def test_a_list_that_never_holds_still_is_not_called_complete() -> None:
    qpay = Listed(None, rows(500, seconds=1))

    def pay(number: int) -> None:
        qpay.rows.insert(0, replace(qpay.rows[0], id=f"new-{number}"))

    qpay.before = pay
    listing = await read(qpay, 0, DAY)
    assert not listing.complete
    assert {f"p-{n}" for n in range(500)} <= set(listing.payments)


@pytest.mark.parametrize("tells_total", [True, False])
async def test_a_list_that_is_cut_off_is_read_in_halves(tells_total: bool) -> None:
    qpay = Listed(None, rows(9_000), most=1_000, tells_total=tells_total)
    listing = await read(qpay, 0, DAY)
    assert (len(listing.payments), listing.trouble) == (9_000, "")


async def test_what_cannot_be_read_is_said() -> None:
    for qpay in (Listed(None, rows(150), fails_from=2), Listed(None, rows(50), unreadable=True)):
        listing = await read(qpay, 0, DAY)
        assert not listing.complete
        assert listing.payments


async def test_the_edges_overlap() -> None:
    edge = [replace(rows(1)[0], id=id_, paid_at=at) for id_, at in (("before", DAY - SECOND), ("after", DAY))]
    for start, end in ((0, DAY), (DAY, 2 * DAY)):
        assert set((await read(Listed(None, edge), start, end)).payments) == {"before", "after"}


# --- payments without a session --------------------------------------------------------------------------------------


async def hours(shop: Shop, count: int) -> None:
    """A worker at work, in steps short enough for every look."""
    process = shop.process()
    for _ in range(count * 6):
        shop.clock.advance(600)
        await process.worker.once()


async def test_an_id_that_found_no_room_in_its_session_is_found_all_the_same(shop: Shop) -> None:
    process = shop.process(Killer(CREATE_INVOICE, Fault.LOST))
    await ended(process.open(expires_in=600))
    (bill,) = shop.qpay.bills.values()
    session = await shop.store.by_sender(bill.request.sender_invoice_no)
    assert session is not None
    process = shop.process()
    for number in range(MOST_HINTS):
        await process.payments.callback(session.id, f"junk-{number}")
    payment_id = shop.qpay.pay(bill.id)
    await process.payments.callback(session.id, payment_id)
    assert await shop.store.unmatched_payment(payment_id) is not None
    shop.clock.advance(31)
    await shop.process().worker.once()
    assert await shop.store.unmatched_payment(payment_id) is None
    assert (await shop.stored(session.id)).status is Status.PAID


async def test_an_id_that_qpay_never_shows_is_closed_with_a_note(shop: Shop) -> None:
    await shop.process().payments.callback("no-such-session", "no-such-payment")
    await hours(shop, 2)
    assert shop.qpay.calls.count("get_payment") == 3
    shop.clock.advance(LOOKS_SECONDS[-1])
    await hours(shop, 1)
    assert shop.qpay.calls.count("get_payment") == len(LOOKS_SECONDS)
    assert await shop.store.unmatched(10) == []
    row = await shop.store.unmatched_payment("no-such-payment")
    assert row is not None
    assert row.closed_at is not None


async def test_a_payment_on_a_foreign_invoice_is_closed_with_its_facts(shop: Shop) -> None:
    payment_id = foreign_bill(shop)
    await shop.process().payments.callback("no-such-session", payment_id)
    await hours(shop, 1)
    row = await shop.store.unmatched_payment(payment_id)
    assert row is not None
    assert row.closed_at is not None
    assert (row.amount, row.invoice_id) == (100_00, "foreign-0")


async def test_money_on_our_invoice_without_a_session_stays_on_the_list(shop: Shop) -> None:
    payment_id = foreign_bill(shop, shop.process().payments.desk.links.sender_invoice_no("gone1"))
    await shop.process().payments.callback("gone1", payment_id)
    await hours(shop, 2)
    shop.clock.advance(LOOKS_SECONDS[-1])
    await hours(shop, 48)
    (row,) = await shop.store.unmatched(10)
    assert (row.payment_id, row.amount, row.due_at, row.tries) == (payment_id, 100_00, None, len(LOOKS_SECONDS))


async def test_two_workers_look_once(shop: Shop) -> None:
    await shop.process().payments.callback("no-such-session", "no-such-payment")
    shop.clock.advance(31)
    one, two = shop.process(), shop.process()
    await asyncio.gather(one.worker.once(), two.worker.once())
    assert shop.qpay.calls.count("get_payment") == 1


@pytest.mark.parametrize("shop", STORES[:2], indirect=True)
async def test_silence_uses_no_look_up(shop: Shop) -> None:
    await shop.process().payments.callback("no-such-session", "no-such-payment")

    async def silent(name: str) -> None:
        if name == "get_payment":
            raise ProviderUnavailable

    shop.qpay.before = silent
    await hours(shop, 48)
    (row,) = await shop.store.unmatched(10)
    assert row.tries == 0
    shop.qpay.before = None
    await hours(shop, 30)
    assert await shop.store.unmatched(10) == []


class Overrun(MemoryStore):
    async def by_payment(self, payment_id: str) -> Session | None:
        raise StoreUnavailable("too many calls wait")


COMPARING = {"store.by_payment", "store.by_invoice", "store.get", "store.commit", "store.record_unmatched"}


# --- killed, at once, by itself --------------------------------------------------------------------------------------


async def table(run: Callable[[Killer], Awaitable[None]]) -> int:
    strikes = 0
    for fault in Fault:
        for at in range(1, 60):
            killer = Killer(at, fault)
            try:
                await run(killer)
            except AssertionError as wrong:
                wrong.add_note(f"call {at}, {killer.struck}: {fault}")
                raise
            if not killer.struck:
                assert at > 1, "nothing was struck"
                break
            strikes += 1
        else:
            raise AssertionError("the use case has no end")
    return strikes


async def test_a_sweep_killed_anywhere_is_finished_by_the_next() -> None:
    async def run(killer: Killer) -> None:
        shop = memory_shop()
        session_id = await late(shop)
        gone = foreign_bill(shop, shop.process().payments.desk.links.sender_invoice_no("gone1"))
        await ended(swept(shop, killer))
        shop.clock.advance(60)
        await swept(shop)
        session = await shop.at_rest(session_id)
        assert session.status is Status.PAID
        assert [row.payment_id for row in await shop.store.unmatched(10)] == [gone]

    assert await table(run) > 40


async def test_a_database_that_fails_once_leaves_no_payment_behind() -> None:
    struck = []

    async def run(killer: Killer) -> None:
        shop = memory_shop()
        session_id = await late(shop)
        gone = foreign_bill(shop, shop.process().payments.desk.links.sender_invoice_no("gone1"))
        await ended(swept(shop, killer))
        if killer.fault is not Fault.REFUSED or killer.struck not in COMPARING:
            return
        struck.append(killer.struck)
        (done,) = await shop.store.sweeps(1)
        assert done.report["trouble"] == ""
        assert sum(done.report[became] for became in ("settled", "waiting", "known")) == 1
        assert (done.report["gone"], done.report["unmatched_ids"]) == (1, [gone])
        assert (await shop.at_rest(session_id)).status is Status.PAID

    await table(run)
    assert set(struck) == COMPARING


async def test_what_fails_twice_is_said_with_its_reason() -> None:
    clock = Clock()
    shop = Shop(Overrun(clock), clock, SmallQPay(clock))
    await late(shop)
    await swept(shop)
    (run,) = await shop.store.sweeps(1)
    assert run.report["trouble"] == "1 payments could not be dealt with: too many calls wait (1)"
    assert (run.report["failed"], run.complete) == (1, False)


async def test_a_look_killed_anywhere_is_done_again() -> None:
    async def run(killer: Killer) -> None:
        shop = memory_shop()
        process = shop.process(Killer(CREATE_INVOICE, Fault.LOST))
        await ended(process.open(expires_in=600))
        (bill,) = shop.qpay.bills.values()
        payment_id = shop.qpay.pay(bill.id)
        await shop.process().payments.callback("somewhere-else", payment_id)
        shop.clock.advance(31)
        await ended(shop.process(killer).worker.once())
        await hours(shop, 1)
        session = await shop.store.by_sender(bill.request.sender_invoice_no)
        assert session is not None
        assert session.status is Status.PAID
        assert await shop.store.unmatched(10) == []

    assert await table(run) > 40


async def test_two_sweepers_at_once_make_one_order_set(shop: Shop) -> None:
    session_id = await late(shop)
    await asyncio.gather(*(swept(shop) for _ in range(4)))
    assert (await shop.at_rest(session_id)).status is Status.PAID


async def test_of_many_processes_one_sweeps_by_itself(shop: Shop) -> None:
    started = shop.clock()
    shop.clock.advance(3600)
    processes = [shop.process() for _ in range(4)]
    done = await asyncio.gather(
        *(by_itself(p.payments.desk, f"w{n}", started_at=started, back=False) for n, p in enumerate(processes))
    )
    assert sum(bool(runs) for runs in done) == 1
    assert await shop.store.swept_until() == (shop.clock() - 300 * SECOND)


async def test_what_was_swept_apart_moves_no_border(shop: Shop) -> None:
    desk, started = shop.process().payments.desk, shop.clock()
    shop.clock.advance(3600)
    await by_itself(desk, "w", started_at=started, back=False)
    until = await shop.store.swept_until()
    assert until is not None
    shop.clock.advance(86_400)
    await sweep(desk, shop.clock() - HOUR, shop.clock(), "operator")
    assert await shop.store.swept_until() == until
    await sweep(desk, until - HOUR, shop.clock(), "operator")
    assert await shop.store.swept_until() == shop.clock()


async def test_what_is_still_to_come_is_not_called_swept(shop: Shop) -> None:
    """An operator in a hurry sweeps "until tomorrow"; whoever pays after that is found all the same."""
    desk, started = shop.process().payments.desk, shop.clock()
    shop.clock.advance(3600)
    await by_itself(desk, "w", started_at=started, back=False)
    await sweep(desk, started, shop.clock() + 3 * DAY, "operator")
    assert await shop.store.swept_until() == shop.clock()
    session_id = await expired_session(shop)
    shop.qpay.pay(str((await shop.stored(session_id)).attempts[0].id))
    shop.clock.advance(86_400)
    runs = await by_itself(desk, "w", started_at=started, back=False)
    assert {run.reason for run in runs} == {"daily"}
    assert (await shop.stored(session_id)).status is Status.PAID
