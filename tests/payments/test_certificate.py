"""`prove`: right about a day whose books agree, and right about every way in which they do not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.payments.test_sweeping import HOUR, Listed, late, memory_shop, swept

from proving.killing import Shop, foreign_bill
from tulbur.core.certificate import Certificate
from tulbur.core.session import SECOND
from tulbur.payments.certifying import prove
from tulbur.payments.sweeping import recover
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
