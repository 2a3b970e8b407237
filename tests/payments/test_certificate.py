"""`prove`: right about a day whose books agree, and right about every way in which they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from tests.payments.killing import Fault, Killer, Shop, ended
from tests.payments.test_sweeping import HOUR, Listed, foreign_bill, late, memory_shop, swept
from tests.payments.world import Clock

from proving.qpay import SmallQPay
from tulbur.core.certificate import Certificate
from tulbur.core.schedule import DAY
from tulbur.core.session import SECOND
from tulbur.payments.certifying import prove
from tulbur.payments.sweeping import recover, sweep
from tulbur.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

DAYS = 30
"""Virtual days in each test run."""


async def proven(shop: Shop) -> Certificate:
    """The certificate of the last two hours, of events that all have their numbers."""
    process = shop.process()
    await process.worker.once()
    return await prove(process.payments.desk, shop.clock() - 2 * HOUR, shop.clock() + SECOND)


async def test_a_day_whose_books_agree_is_proven() -> None:
    shop = memory_shop()
    await late(shop)
    foreign_bill(shop)
    await swept(shop)
    certificate = await proven(shop)
    assert certificate.proven, certificate
    sums = certificate.sums["MNT"]
    assert (sums.listed, sums.ordered, sums.foreign) == (5_010_000, 5_000_000, 10_000)
    assert (certificate.payments, certificate.foreign) == (2, 1)


async def test_a_payment_that_is_missing_here_is_named_with_its_session() -> None:
    shop = memory_shop()
    session_id = await late(shop)
    certificate = await proven(shop)
    assert not certificate.proven
    (difference,) = certificate.differences
    assert (difference.what, difference.where) == ("not recorded here", session_id)
    assert not certificate.sums["MNT"].balance


async def test_money_without_a_session_balances_once_it_is_named() -> None:
    shop = memory_shop()
    foreign_bill(shop, shop.process().payments.desk.links.sender_invoice_no("gone1"))
    (difference,) = (await proven(shop)).differences
    assert difference.what == "not recorded here, and its session is not stored"
    await swept(shop)
    certificate = await proven(shop)
    assert certificate.proven, certificate
    assert certificate.sums["MNT"].unmatched == 100_00


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"amount": 4_999_900}, "49999.00 MNT at QPay, 50000.00 MNT here"),
        ({"currency": "USD"}, "50000.00 USD at QPay, 50000.00 MNT here"),
        ({"status": "REFUNDED"}, "REFUNDED at QPay, PAID here"),
        ({"status": "SETTLING"}, "QPay calls it SETTLING: whether that is money is not known"),
    ],
)
async def test_a_payment_that_is_not_the_same_is_named(change: dict[str, object], what: str) -> None:
    shop = memory_shop()
    session_id = await late(shop)
    await swept(shop)
    (bill,) = shop.bills(await shop.stored(session_id))
    bill.payments[0] = replace(bill.payments[0], **change)
    certificate = await proven(shop)
    assert not certificate.proven
    assert what in [difference.what for difference in certificate.differences]


async def test_a_payment_that_the_list_lacks_is_named() -> None:
    shop = memory_shop()
    session_id = await late(shop)
    await swept(shop)
    process = shop.process()
    await process.worker.once()
    desk = replace(process.payments.desk, provider=Listed(shop.qpay))
    certificate = await prove(desk, shop.clock() - 2 * HOUR, shop.clock() + SECOND)
    (difference,) = certificate.differences
    assert (difference.what, difference.where) == ("recorded here, and not listed by QPay", session_id)
    assert not certificate.proven


async def test_an_incomplete_list_proves_nothing() -> None:
    shop = memory_shop()
    await late(shop)
    await swept(shop)
    page = await shop.qpay.list_payments(shop.clock() - HOUR, shop.clock())
    for broken in (Listed(shop.qpay, list(page.payments), unreadable=True), Listed(shop.qpay, fails_from=1)):
        desk = replace(shop.process().payments.desk, provider=broken)
        certificate = await prove(desk, shop.clock() - 2 * HOUR, shop.clock() + SECOND)
        assert certificate.trouble
        assert not certificate.proven


async def test_proving_changes_nothing() -> None:
    shop = memory_shop()
    session_id = await late(shop)
    foreign_bill(shop, shop.process().payments.desk.links.sender_invoice_no("gone1"))
    before = await shop.stored(session_id)
    await proven(shop)
    assert await shop.stored(session_id) == before
    assert await shop.store.unmatched(10) == []


# --- after a restore -------------------------------------------------------------------------------------------------


async def test_after_a_restore_money_is_found_and_carts_that_are_gone_are_named() -> None:
    shop = memory_shop()
    kept = await shop.process().open()
    backup = shop.clock()
    shop.clock.advance(600)
    # Opened and paid after the backup was made: the restored database knows neither.
    lost_shop = Shop(MemoryStore(shop.clock), shop.clock, shop.qpay)
    lost_shop.numbers = shop.numbers
    lost = await lost_shop.process().open()
    payment_id = shop.qpay.pay(str(lost.attempts[0].id))
    shop.qpay.pay(str(kept.attempts[0].id))
    process = shop.process()
    await process.payments.get(kept.id)
    runs, emptied = await recover(process.payments.desk, backup - HOUR)
    assert emptied
    assert [run.reason for run in runs] == ["recover"]
    assert runs[0].report["unmatched_ids"] == [payment_id]
    assert (await shop.at_rest(kept.id)).orders
    assert (await proven(shop)).proven


# --- many days -------------------------------------------------------------------------------------------------------


async def a_day(shop: Shop, random: Random, counts: dict[str, int]) -> None:
    """Sessions opened, paid in every way and at any time, with and without a callback; processes die as they go."""

    def happened(what: str) -> None:
        counts[what] = counts.get(what, 0) + 1

    start = shop.clock()
    for _ in range(random.randrange(4)):
        opening = shop.process(Killer(random.choice((0, 0, 3)), random.choice(list(Fault))))
        await ended(opening.open(expires_in=random.choice((60, 600))))
    for bill in list(shop.qpay.bills.values())[-8:]:
        shop.clock.advance(random.randrange(2_000))
        if bill.cancelled or random.random() < 0.5:
            continue
        amount = random.choice((5_000_000, 5_000_000, 2_500_000, 6_000_000))
        currency = random.choice(("MNT",) * 9 + ("USD",))
        payment_id = shop.qpay.pay(bill.id, amount, currency=currency, method=random.choice(("P2P", "CARD")))
        if random.random() < 0.3:
            dying = shop.process(Killer(random.randrange(12), random.choice(list(Fault))))
            session = await shop.store.by_sender(bill.request.sender_invoice_no)
            named = session.id if session and random.random() < 0.8 else "nobody"
            await ended(dying.payments.callback(named, payment_id))
            happened("callback, process dying")
        else:
            happened("callback lost")
    if random.random() < 0.3:
        foreign_bill(shop)
        happened("foreign")
    if random.random() < 0.2:
        foreign_bill(shop, shop.process().payments.desk.links.sender_invoice_no(f"gone{random.randrange(10**9)}"))
        happened("session gone")
    if random.random() < 0.2:
        cards = [p for bill in shop.qpay.bills.values() for p in bill.payments if p.method == "CARD"]
        if cards:
            await shop.qpay.refund_payment(random.choice(cards).id, "")
            happened("refunded at QPay")
    shop.clock.now = start + DAY


def truth(shop: Shop, start: int, end: int) -> dict[str, int]:
    """What QPay really received, by currency."""
    sums: dict[str, int] = {}
    for bill in shop.qpay.bills.values():
        for p in bill.payments:
            if start <= (p.paid_at or 0) < end:
                sums[p.currency] = sums.get(p.currency, 0) + p.amount
    return sums


async def days(count: int, seed: int = 1) -> dict[str, int]:
    """So many faulty days: before the sweep `prove` says what is missing, after it that nothing is."""
    random, clock = Random(seed), Clock()
    shop = Shop(MemoryStore(clock), clock, SmallQPay(clock))
    counts = {"days": 0, "days to mend": 0}
    for _ in range(count):
        start = clock.now
        await a_day(shop, random, counts)
        await shop.process().worker.once()
        desk = shop.process().payments.desk
        end = clock.now
        before = await prove(desk, start, end)
        missing = await _missing(shop, start, end)
        assert before.proven == (not missing), (missing, before)
        counts["days to mend"] += bool(missing)
        if random.random() < 0.3:
            killer = Killer(random.randrange(1, 40), random.choice(list(Fault)))
            await ended(sweep(shop.process(killer).payments.desk, start, end, "operator"))
            counts["sweep killed"] = counts.get("sweep killed", 0) + bool(killer.struck)
        clock.advance(60)
        await sweep(desk, start, end, "daily")
        for _ in range(6):
            clock.advance(60)
            await shop.process().worker.once()
        after = await prove(desk, start, end)
        assert after.proven, (start, after.differences, after.trouble)
        assert {name: sums.listed for name, sums in after.sums.items()} == truth(shop, start, end)
        counts["days"] += 1
    return counts


async def _missing(shop: Shop, start: int, end: int) -> list[str]:
    """Payments that are not as QPay has them here: found by looking into both books directly."""
    wrong = []
    for bill in shop.qpay.bills.values():
        ours = shop.process().payments.desk.links.is_ours(bill.request.sender_invoice_no)
        for p in bill.payments:
            if not ours or not start <= (p.paid_at or 0) < end:
                continue
            session = await shop.store.by_payment(p.id)
            here = session.payment(p.id) if session else await shop.store.unmatched_payment(p.id)
            same = here is not None and (here.amount, here.status) == (p.amount, p.status)
            if not same or (session is None and await shop.store.by_sender(bill.request.sender_invoice_no)):
                wrong.append(p.id)
    return wrong


async def test_prove_is_right_on_every_faulty_day(record_property: Callable[[str, object], None]) -> None:
    counts = await days(DAYS)
    record_property("told", f"prove: right on {counts['days']} faulty days; {counts}")
    assert counts["days"] == DAYS
    assert all(counts[name] for name in ("callback lost", "callback, process dying", "foreign", "session gone"))
    assert all(counts[name] for name in ("refunded at QPay", "sweep killed", "days to mend"))
