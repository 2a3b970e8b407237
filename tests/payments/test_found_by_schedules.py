"""What the schedules of `proving` found, each kept as its shortest story."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.payments.test_adopting_kills import SmallRedis, old_session
from tests.payments.world import Clock

from proving.killing import CREATE_INVOICE, Bill, Fault, Killer, Shop, SmallQPay, ended
from tulbur.core import steps
from tulbur.core.custody import Custody
from tulbur.core.rules import Rules
from tulbur.core.session import SECOND, ExceptionName, InvoiceState, Micros, Reason, Session, Status
from tulbur.core.steps import InvoiceMade
from tulbur.errors import ProviderRefused
from tulbur.payments import sweeping
from tulbur.payments.certifying import prove
from tulbur.payments.matching import of_payment
from tulbur.payments.settling import settle
from tulbur.ports import CommitResult, InvoiceRequest, PaymentPage
from tulbur.stores.memory import MemoryStore
from tulbur.worker import Follower


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_late_money_that_is_too_little_has_its_name_though_the_check_was_refused() -> None:
    """Seed 857: found by its id alone, the money was due back, and no exception told a person why."""
    clock = Clock()
    shop = Shop(MemoryStore(clock), clock, SmallQPay(clock))
    session = await shop.process().open(expires_in=600)
    assert (await shop.at_rest(session.id)).status is Status.EXPIRED
    payment_id = shop.qpay.pay(str(session.attempts[0].id), 2_000_000)

    async def refuses(name: str) -> None:
        if name == "check":
            raise ProviderRefused("NO_REASON", provider_status=500)

    shop.qpay.before = refuses
    await shop.process().payments.callback(session.id, payment_id)
    stored = await shop.stored(session.id)
    assert stored.sum("refund_due") == 2_000_000
    assert stored.exceptions == {ExceptionName.UNDERPAID}
    shop.qpay.before = None
    shop.qpay.pay(str(session.attempts[0].id), 3_000_000)
    await shop.process().payments.callback(session.id, "pay-2")
    assert (await shop.stored(session.id)).exceptions == {ExceptionName.LATE}


class Overtaken(MemoryStore):
    """As soon as a question is claimed, whoever opens the session hears from QPay which invoice it made."""

    made: InvoiceMade | None = None

    async def commit(self, before: Session, after: Session) -> CommitResult:
        result = await super().commit(before, after)
        if self.made is not None and any(event.type == "check.asked" for event in after.news):
            made, self.made = self.made, None
            stored = await self.get(after.id)
            assert stored is not None
            await super().commit(stored, steps.with_invoice(stored, 1, made, after.last_check_at or 0))
        return result


@pytest.mark.anyio
async def test_an_invoice_that_came_to_be_meanwhile_is_not_cancelled_on_the_word_about_the_others() -> None:
    """Seed 6535, EXPIRED_INVOICES=cancel: QPay was asked while there was none, and the new one expired unasked."""
    clock = Clock()
    store = Overtaken(clock)
    shop = Shop(store, clock, SmallQPay(clock))
    await ended(shop.process(Killer(CREATE_INVOICE, Fault.KILLED_AFTER)).open(expires_in=60))
    (bill,) = shop.qpay.bills.values()
    (session,) = store.data.sessions
    clock.advance(61)
    store.made = InvoiceMade(id=bill.id, qr_text="qr")
    desk = replace(shop.process().payments.desk, rules=Rules(cancel_expired=True))
    after = (await settle(desk, session, Reason.DEADLINE)).session
    assert (after.status, after.attempts[0].state, bill.cancelled) == (Status.PENDING, InvoiceState.OPEN, False)
    assert after.next_check_at is not None


async def followed_and_paid(qpay: Callable[[Clock], SmallQPay] = SmallQPay) -> tuple[Shop, str]:
    """A session of the old shop's that is followed, its money, and an hour later."""
    clock = Clock()
    redis = SmallRedis({"old-1": old_session(clock, invoice_id="inv-1")})
    shop = Shop(MemoryStore(clock), clock, qpay(clock), redis)
    asked = InvoiceRequest(
        sender_invoice_no="old-1", receiver_code="t", description="", amount=5_000_000, callback_url="http://old"
    )
    shop.qpay.bills["inv-1"] = Bill("inv-1", asked)
    await Follower(shop.process().payments, owner="f").once()
    payment_id = shop.qpay.pay("inv-1")
    clock.advance(3600)
    return shop, payment_id


class Nameless(SmallQPay):
    """Its list does not tell the invoice of a payment; the payment does."""

    async def list_payments(self, start: Micros, end: Micros, page: int = 1) -> PaymentPage:
        shown = await super().list_payments(start, end, page)
        return replace(shown, payments=tuple(replace(p, invoice_id="") for p in shown.payments))


@pytest.mark.anyio
@pytest.mark.parametrize("qpay", [SmallQPay, Nameless])
async def test_a_sweep_leaves_money_to_the_old_shop_whose_session_is_only_followed(
    qpay: Callable[[Clock], SmallQPay],
) -> None:
    """Seed 145: nobody called us, so QPay called the old shop, and the order made here was the second one."""
    shop, payment_id = await followed_and_paid(qpay)
    clock = shop.clock
    desk = shop.process().payments.desk
    start, end = clock() - 7200 * SECOND, clock() + SECOND
    (run,) = await sweeping.sweep(desk, start, end, sweeping.OPERATOR)
    assert (run.report["seen"], run.report["foreign"]) == ("all", 1)
    left_alone = await shop.stored("old-1")
    assert (left_alone.custody, left_alone.hints, left_alone.orders) == (Custody.FOLLOWED, (), ())
    assert (await prove(desk, start, end)).proven

    await shop.process().payments.callback("old-1", payment_id)
    assert (await shop.stored("old-1")).status is Status.PAID
    assert (await prove(desk, start, end)).proven


@pytest.mark.anyio
async def test_money_a_sweep_could_not_place_is_left_to_the_old_shop_too() -> None:
    """Seed 3185: QPay did not tell the sweep whose it was; the look behind it did, and made a second order."""
    shop, payment_id = await followed_and_paid()
    seen = await shop.qpay.get_payment(payment_id)
    assert seen is not None
    await shop.store.record_unmatched(of_payment(seen, shop.clock()))
    for _ in range(30):
        shop.clock.advance(3600)
        await shop.process().worker.once()
    assert (await shop.stored("old-1")).custody is Custody.FOLLOWED
    assert [row.payment_id for row in await shop.store.unmatched(10)] == [payment_id], "a person sees it"

    await shop.process().payments.callback("old-1", payment_id)
    assert (await shop.stored("old-1")).status is Status.PAID
