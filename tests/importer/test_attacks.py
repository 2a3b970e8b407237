"""What somebody would do who wants an order of the old shop's lost, made twice, or its money unaccounted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.importer.filling import execute, fill
from tests.importer.old_shop import cases, tell_qpay
from tests.importer.running import Old, named, no_pause, reasons
from tests.payments.world import Clock, World, world

from tulbur.core.custody import Custody
from tulbur.core.session import Reason, Status
from tulbur.errors import StoreUnavailable
from tulbur.importer.choosing import open_source
from tulbur.importer.moving import Move
from tulbur.importer.rescuing import account, rescue_all
from tulbur.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio


async def told(w: World, session_id: str) -> list[str]:
    """The shops whose orders were announced."""
    return [e.data["shop_id"] for e in await w.store.history(session_id, 99) if e.type == "order.created"]


# --- whose processed invoice, whose order


async def test_a_processed_invoice_of_another_session_is_for_a_person(w: World, old: Old) -> None:
    case, other = made = named("webhook lost", "paid twice")
    move = await old.has(made)
    await old.processes(case, session_id=other.session_id)
    report = await move.follow(dry_run=False)
    why = "a processed invoice with its QPay invoice names another session"
    assert reasons(report)[case.session_id] == why
    await move.take_over()
    await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert await told(w, case.session_id) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ('DELETE FROM "orders" WHERE "shopId" <> (SELECT min("shopId") FROM "orders")', "fewer orders"),
        ('UPDATE "orders" SET "shopId" = upper("shopId")', "not in the cart"),
        ('ALTER TABLE "orders" RENAME TO "order"; UPDATE "QPayProcessedInvoice" SET "orderIds" = NULL', "no table"),
        ('ALTER TABLE "orders" RENAME TO "order"; UPDATE "QPayProcessedInvoice" SET "orderIds" = "orderIds"[1:1]',
         "fewer orders"),
    ],
)  # fmt: skip
async def test_orders_that_cannot_be_told_apart_are_for_a_person(w: World, old: Old, change: str, why: str) -> None:
    [case] = made = named("webhook lost")
    move = await old.has(made)
    await old.processes(case, session_id=case.session_id)
    if why == "fewer orders" and "DELETE" in change:
        await old.sql('ALTER TABLE "orders" ALTER "shopId" DROP NOT NULL')
        change += '; UPDATE "orders" SET "shopId" = NULL'
    for statement in change.split("; "):
        await old.sql(statement)
    again = Move(w.payments.desk, open_source(old.url))
    await again.source.start()
    report = await again.follow(dry_run=False)
    await again.take_over()
    await again.source.stop()
    assert move.source is not again.source
    assert why in reasons(report)[case.session_id]
    await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert (await w.stored(case.session_id)).orders == ()


@pytest.mark.parametrize("form", ['["{0}", "{1}"]', "{0},{1}", "{{{0}, {1}}}", '"{0},{1}"'])
async def test_order_ids_in_a_column_of_text(w: World, old: Old, form: str) -> None:
    [case] = made = named("webhook lost")
    await old.has(made)
    await old.processes(case, session_id=None)
    await old.sql('ALTER TABLE "QPayProcessedInvoice" ALTER "orderIds" TYPE TEXT USING \'\'')
    await old.sql('UPDATE "orders" SET "createdAt" = \'2000-01-01\'')  # so that only their names lead to them
    ids = [f"made-{case.session_id}-{n}" for n in range(2)]
    await old.sql('UPDATE "QPayProcessedInvoice" SET "orderIds" = $1', form.format(*ids))
    move = Move(w.payments.desk, open_source(old.url))
    await move.source.start()
    assert (await move.follow(dry_run=False)).fine
    await move.source.stop()
    assert (await w.stored(case.session_id)).metadata["old_order_ids"] == dict(zip(case.shops, ids, strict=True))


@pytest.mark.parametrize(("kind", "id_"), [("integer", "7"), ("uuid", "6f1e8a52-95b6-4b0a-8f77-0b8d3f1f8a11")])
async def test_ids_of_orders_may_be_no_text(w: World, old: Old, kind: str, id_: str) -> None:
    [case] = made = named("webhook lost")
    await old.has(made)
    await old.processes(case, session_id=None, makes=1)
    await old.sql(f'ALTER TABLE "orders" ALTER "id" TYPE {kind} USING \'{id_}\'::text::{kind}')
    await old.sql('ALTER TABLE "orders" ALTER "userId" TYPE integer USING 5')
    await old.sql('UPDATE "QPayProcessedInvoice" SET "orderIds" = ARRAY[$1]', id_)
    move = Move(w.payments.desk, open_source(old.url))
    await move.source.start()
    assert (await move.follow(dry_run=False)).fine
    await move.source.stop()
    assert (await w.stored(case.session_id)).metadata["old_order_ids"] == {case.shops[0]: id_}


async def test_an_order_stays_with_the_session_it_was_counted_for(w: World, old: Old) -> None:
    first, second = made = [named("killed before the orders were named")[0], named("webhook lost")[0]]
    # The same payer bought the same twice: one order exists, unnamed, and the other session is read before its own.
    for name in ("userId", "payload", "amount", "createdAt", "updatedAt", "expiresAt"):
        second.row[name] = first.row[name]
    second.totals = first.totals
    second.row["id"] = "00" + second.row["id"][2:]
    move = await old.has(made)
    await old.sql('UPDATE "QPayPaymentSession" SET "status" = \'WEIRD\' WHERE "sessionId" = $1', second.session_id)
    await move.follow(dry_run=False)
    assert (await w.stored(first.session_id)).status is Status.PAID
    await old.sql('UPDATE "QPayPaymentSession" SET "status" = \'PENDING\' WHERE "sessionId" = $1', second.session_id)
    await move.follow(dry_run=False)
    assert (await move.take_over()).fine
    await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert await told(w, first.session_id) == []
    assert await told(w, second.session_id) == second.shops, "paid, and its orders were not made"


async def test_an_order_whose_row_was_cleaned_away_was_made(w: World, old: Old) -> None:
    [case] = made = named("half an order")
    move = await old.has(made)
    await move.follow(dry_run=False)
    await old.sql('DELETE FROM "orders"')
    await old.sql('DELETE FROM "QPayProcessedInvoice"')
    await move.follow(dry_run=False)
    assert (await move.take_over()).fine
    await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert await told(w, case.session_id) == case.shops[1:]


# --- what becomes of its money later


@pytest.mark.parametrize("cleaned", [False, True])
async def test_money_on_what_the_old_shop_ordered_is_accounted(w: World, old: Old, cleaned: bool) -> None:
    [case] = made = named("processed")
    move = await old.has(made)
    await move.follow(dry_run=False)
    if cleaned:
        await old.sql('DELETE FROM "QPayPaymentSession"')
    assert (await move.take_over()).fine
    [own] = w.simulator.ledger.payments
    second = await w.pay_invoice(case.row["invoiceId"])
    for payment_id in (own, second, second):
        w.clock.advance(30)
        await w.payments.callback(case.session_id, payment_id)
    session = await w.stored(case.session_id)
    assert (session.sum("ordered"), session.sum("refund_due")) == (session.amount, session.amount)
    assert {e.value for e in session.exceptions} == {"paid_twice"}
    await w.refund(second)
    w.clock.advance(60)
    await w.worker.once()
    await w.payments.check(case.session_id, Reason.OPERATOR)
    session = await w.stored(case.session_id)
    assert (session.sum("ordered"), session.sum("refunded")) == (session.amount, session.amount)
    assert (await told(w, case.session_id), (await account(w.payments.desk)).balances) == ([], True)


async def test_a_clock_ahead_hides_no_session_from_the_rescue(w: World, old: Old) -> None:
    [case] = made = named("webhook lost")
    move = await old.has(made)
    await old.sql("""UPDATE "QPayPaymentSession" SET "lastCheckAt" = '2030-01-01', "expiresAt" = '9999-12-31'""")
    await move.follow(dry_run=False)
    await move.take_over()
    session = await w.stored(case.session_id)
    assert session.expires_at - w.clock() == 30 * 86_400_000_000, "nothing waits without an end"
    await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert await told(w, case.session_id) == case.shops


async def test_a_session_without_an_invoice_is_not_called_unpaid(w: World, old: Old) -> None:
    known, unknown, lost = made = named("abandoned", "expired", "webhook lost")
    move = await old.has(made)
    await old.sql('UPDATE "QPayPaymentSession" SET "invoiceId" = NULL WHERE "sessionId" = $1', unknown.session_id)
    await old.sql('UPDATE "QPayPaymentSession" SET "invoiceId" = \'none\' WHERE "sessionId" = $1', lost.session_id)
    await move.follow(dry_run=False)
    await move.take_over()
    report = await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    assert report.done == {("PENDING", "not paid at QPay"): 2, ("EXPIRED", "no invoice to ask QPay about"): 1}
    assert (await w.stored(known.session_id)).status is Status.EXPIRED


# --- two at once, and the end in the middle


async def test_two_of_everything_at_once_make_one_order_set(w: World, old: Old) -> None:
    made = [case for case in cases(26) if case.what.ends != "skipped"]
    move = await old.has(made)
    await move.follow(dry_run=False)
    second = Move(w.payments.desk, open_source(old.url))
    await second.source.start()
    calls = [w.payments.callback(case.session_id, "") for case in made]
    await asyncio.gather(move.take_over(), second.follow(dry_run=False), second.take_over(), *calls)
    await second.source.stop()
    desk = w.payments.desk
    rescues = (rescue_all(desk, pause=no_pause, dry_run=False) for _ in range(2))
    w.clock.advance(60)
    await asyncio.gather(*rescues, w.worker.once())
    w.clock.advance(60)
    await rescue_all(desk, pause=no_pause, dry_run=False)
    for case in made:
        session = await w.stored(case.session_id)
        if case.what.ends == "review":
            assert session.orders == ()
            continue
        assert (case.kind, session.status) == (case.kind, Status(case.what.ends))
        assert await told(w, session.id) == (case.shops[case.what.made :] if case.what.ends == "PAID" else [])
    assert (await account(desk)).balances


class Dying:
    """A store whose process ends at one commit, before it or after it."""

    def __init__(self, store: Any, commits: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, commits, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, before: Any, change: Any) -> Any:
        self._left -= 1
        if self._left > 0:
            return await self._store.commit(before, change)
        if self._left == 0 and self._after:
            await self._store.commit(before, change)
        raise StoreUnavailable


@pytest.mark.parametrize("after", [False, True])
async def test_a_take_over_that_dies_at_any_commit_is_run_again(database: Callable[[str], str], after: bool) -> None:
    kinds = ("webhook lost", "processed", "half an order", "expired, paid late", "cancelled, paid", "invoice id lost")
    url = ""
    for commits in range(1, len(kinds) + 1):
        made, clock = named(*kinds), Clock()
        async with world(MemoryStore(clock), clock) as w:
            tell_qpay(w.simulator, made)
            if not url:
                url = database("postgres")
                await fill("postgres", url, made)
            for case in made:
                await execute(
                    url,
                    'UPDATE "QPayPaymentSession" SET "invoiceId" = $1, "paymentId" = $2 WHERE "sessionId" = $3',
                    *(case.row["invoiceId"], case.row["paymentId"], case.session_id),
                )
            source = open_source(url)
            await source.start()
            desk = w.payments.desk
            await Move(desk, source).follow(dry_run=False)
            dying = Move(replace(desk, store=Dying(desk.store, commits, after=after)), source)
            with pytest.raises(StoreUnavailable):
                await dying.take_over()
            assert (await Move(desk, source).take_over()).fine
            await source.stop()
            await rescue_all(desk, pause=no_pause, dry_run=False)
            for case in made:
                session = await w.stored(case.session_id)
                assert (session.status, session.custody) == (Status.PAID, Custody.OURS)
                assert await told(w, session.id) == case.shops[case.what.made :]
