"""Sessions that the old shop has in its Redis alone: followed, adopted by a callback, ordered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.importer.old_shop import KINDS, Case, cases, tell_qpay
from tests.payments.world import Clock, World, world

from tulbur.core.custody import Custody
from tulbur.core.session import ExceptionName, Session, Status
from tulbur.errors import SettingsError, SourceUnavailable, StoreUnavailable
from tulbur.importer.keys import MOST_REMEMBERED, LiveKeys
from tulbur.payments.following import follow
from tulbur.payments.moving import import_session
from tulbur.stores.memory import MemoryStore
from tulbur.worker import Follower

pytestmark = [pytest.mark.anyio, pytest.mark.store("valkey")]

PREFIX = "payment-session:"
NOBODY = "redis://127.0.0.1:1/0"


class Old:
    """The old shop's Redis, and a tulbur that follows it."""

    def __init__(self, w: World, redis: Any, live: LiveKeys) -> None:
        self.w, self.redis, self.live = w, redis, live
        self.follower = Follower(w.payments, owner="f")

    async def has(self, case: Case, *, invoice: bool = True, ttl: int = 600, **changes: Any) -> None:
        payload = {**case.row["payload"], **({"invoiceId": case.row["invoiceId"]} if invoice else {}), **changes}
        await self.redis.set(PREFIX + case.session_id, json.dumps(payload), ex=ttl)

    async def paid(self, kind: str = "webhook lost") -> tuple[Case, str]:
        """A session of the old shop's that has been paid at QPay, and the payment."""
        case = next(case for case in cases(len(KINDS)) if case.kind == kind)
        tell_qpay(self.w.simulator, [case])
        return case, list(self.w.simulator.ledger.payments)[-1]

    async def stored(self, case: Case) -> Session:
        return await self.w.stored(case.session_id)


@pytest.fixture
async def redis(database: Callable[[str], str]) -> AsyncIterator[Any]:
    url = database("valkey")
    async with Redis.from_url(url.replace("valkey://", "redis://")) as client:
        await client.flushdb()
        client.told = url
        yield client


@pytest.fixture
async def old(redis: Any) -> AsyncIterator[Old]:
    clock = Clock()
    live = LiveKeys(redis.told, clock)
    async with world(MemoryStore(clock), clock, old_shop=live) as w:
        yield Old(w, redis, live)
    await live.stop()


async def test_a_callback_for_one_not_yet_stored_makes_the_order_once(old: Old) -> None:
    case, payment_id = await old.paid()
    await old.has(case)
    before = await old.redis.dump(PREFIX + case.session_id)
    assert await old.w.payments.callback(case.session_id, payment_id) == "paid"
    session = await old.stored(case)
    assert (session.status, session.custody) == (Status.PAID, Custody.OURS)
    assert {order.shop_id for order in session.orders} == set(case.shops)
    assert await old.w.payments.callback(case.session_id, payment_id) == "repeated"
    assert old.w.heard.loads == ["adopted", "database"]
    assert await old.redis.dump(PREFIX + case.session_id) == before, "the key is the old shop's"
    assert await old.w.requests(f"/invoice/{case.row['invoiceId']}") == 1, "QPay was asked whose invoice it is"


async def test_one_that_was_followed_is_ordered_after_redis_forgot_it(old: Old) -> None:
    case, payment_id = await old.paid()
    await old.has(case)
    await old.follower.once()
    session = await old.stored(case)
    assert (session.status, session.custody, session.cache_seconds) == (Status.PENDING, Custody.FOLLOWED, 0)
    await old.redis.flushdb()
    assert await old.w.payments.callback(case.session_id, payment_id) == "paid"


async def test_without_a_callback_it_stays_the_old_shops(old: Old) -> None:
    case, _ = await old.paid()
    await old.has(case)
    await old.follower.once()
    old.w.clock.advance(86_400)
    await old.w.worker.once()
    assert (await old.stored(case)).custody is Custody.FOLLOWED
    assert await old.w.requests("/payment/check") == 0, "two systems must not make orders for one payment"


async def test_what_changed_is_read_again_and_the_rest_is_not(old: Old) -> None:
    case, _ = await old.paid()
    await old.has(case, invoice=False)
    assert await follow(old.w.payments.desk) == {case.session_id}
    assert [batch async for batch in old.live.changed()] == [[]]
    await old.has(case)
    assert await follow(old.w.payments.desk) == set()
    assert (await old.stored(case)).attempts[0].id == case.row["invoiceId"]


async def test_a_reading_that_breaks_off_is_begun_again(old: Old) -> None:
    case, _ = await old.paid()
    await old.has(case)
    readings = old.live.changed()
    assert [session.id for session in await anext(readings)] == [case.session_id]
    await readings.aclose()
    assert await follow(old.w.payments.desk) == {case.session_id}


@pytest.mark.parametrize("named", ["by the payment", "by its own id"])
async def test_a_key_without_an_invoice_finds_it_at_qpay(old: Old, named: str) -> None:
    case, payment_id = await old.paid()
    await old.has(case, invoice=False)
    hint = payment_id if named == "by the payment" else case.row["invoiceId"]
    await old.w.payments.callback(case.session_id, hint)
    session = await old.stored(case)
    assert (session.status, session.attempts[0].id) == (Status.PAID, case.row["invoiceId"])


async def test_another_amount_at_qpay_is_for_a_person(old: Old) -> None:
    """The key was written by somebody else: one tugrik was paid, and the key says that it is a big cart's."""
    case, payment_id = await old.paid()
    cart = [{"productId": "p", "shopId": "s", "quantity": 1, "sale_price": 900_000}]
    await old.has(case, cart=cart, totalAmount=900_000, coupon=None)
    assert await old.w.payments.callback(case.session_id, payment_id) == "waiting"
    session = await old.stored(case)
    assert session.claim is not None
    assert session.claim.review == "QPay has its invoice over another amount"
    assert session.exceptions == {ExceptionName.REVIEW}
    old.w.clock.advance(86_400)
    await old.w.payments.callback(case.session_id, "another-one")
    await old.w.worker.once()
    session = await old.stored(case)
    assert (session.custody, session.orders) == (Custody.FOLLOWED, ())
    # Once the key is right, the next callback makes the order.
    await old.has(case)
    await old.follower.once()
    assert await old.w.payments.callback(case.session_id, payment_id) == "paid"
    assert (await old.stored(case)).exceptions <= {ExceptionName.LATE}


async def test_an_invoice_of_another_session_proves_nothing(old: Old) -> None:
    """One paid invoice must not confirm any number of sessions."""
    case, payment_id = await old.paid()
    await old.redis.set(PREFIX + "forged", json.dumps({**case.row["payload"], "invoiceId": case.row["invoiceId"]}))
    assert await old.w.payments.callback("forged", payment_id) == "waiting"
    forged = await old.w.stored("forged")
    assert forged.claim is not None
    assert (forged.claim.review, forged.orders) == ("QPay has its invoice for another session", ())


@pytest.mark.parametrize("called", ["forged", "sess-other"])
async def test_the_address_qpay_calls_says_whose_invoice_it_is(old: Old, called: str) -> None:
    case, payment_id = await old.paid()
    invoice = old.w.simulator.ledger.invoices[case.row["invoiceId"]]
    address = f"https://shop.mn/api/payments/qpay/webhook?sessionId={called}&token=t"
    invoice.form = replace(invoice.form, callback_url=address)
    await old.redis.set(PREFIX + "forged", json.dumps({**case.row["payload"], "invoiceId": case.row["invoiceId"]}))
    await old.w.payments.callback("forged", payment_id)
    assert ((await old.w.stored("forged")).status is Status.PAID) is (called == "forged")


async def test_a_total_that_is_not_the_cart_is_for_a_person_at_once(old: Old) -> None:
    case, payment_id = await old.paid()
    await old.has(case, totalAmount=case.row["payload"]["totalAmount"] + 1)
    await old.follower.once()
    assert (await old.stored(case)).exceptions == {ExceptionName.REVIEW}
    assert await old.w.payments.callback(case.session_id, payment_id) == "waiting"
    session = await old.stored(case)
    assert (session.custody, [hint.payment_id for hint in session.hints]) == (Custody.FOLLOWED, [payment_id])


async def test_while_qpay_is_silent_the_hint_waits(old: Old) -> None:
    case, payment_id = await old.paid()
    await old.has(case)
    await old.w.faults(reply={"invoice_get": {"status": 500, "times": 1}})
    assert await old.w.payments.callback(case.session_id, payment_id) == "waiting"
    session = await old.stored(case)
    assert (session.custody, len(session.hints)) == (Custody.FOLLOWED, 1)
    for _ in range(5):
        old.w.clock.advance(61)
        await old.w.worker.once()
    assert (await old.stored(case)).status is Status.PAID


async def test_an_invoice_qpay_does_not_know_ends_unconfirmed(old: Old) -> None:
    case, payment_id = await old.paid()
    await old.has(case, invoiceId="9f2c0000-0000-4000-8000-000000000000")
    assert await old.w.payments.callback(case.session_id, payment_id) == "waiting"
    for _ in range(30):
        due = (await old.stored(case)).next_check_at
        if due is None:
            break
        old.w.clock.now = max(due, old.w.clock.now) + 61_000_000
        await old.w.worker.once()
    session = await old.stored(case)
    assert (session.next_check_at, session.orders) == (None, ())
    assert session.exceptions == {ExceptionName.UNCONFIRMED}


async def test_many_callbacks_at_once_make_one_order_set(old: Old) -> None:
    case, payment_id = await old.paid()
    await old.has(case)
    said = await asyncio.gather(*(old.w.payments.callback(case.session_id, payment_id) for _ in range(16)))
    await old.w.payments.stop()
    assert "paid" in said
    session = await old.stored(case)
    types = [event.type for event in await old.w.store.history(session.id, 200)]
    assert types.count("session.paid") == 1


async def test_while_redis_is_away_a_hint_is_kept_and_finds_its_session_later(old: Old) -> None:
    case, payment_id = await old.paid()
    await old.has(case)
    away = LiveKeys(NOBODY, old.w.clock)
    desk, old.w.payments.desk = old.w.payments.desk, replace(old.w.payments.desk, old_shop=away)
    with pytest.raises(StoreUnavailable):
        await old.w.payments.callback(case.session_id, "")
    assert await old.w.payments.callback(case.session_id, payment_id) == "unmatched"
    with pytest.raises(SourceUnavailable):
        await old.w.payments.get(case.session_id)
    old.w.payments.desk = desk
    await away.stop()
    await old.follower.once()
    assert (await old.stored(case)).status is Status.PAID
    assert await old.w.store.unmatched(10) == [], "the payment has its session"


async def test_what_is_no_session_is_left_alone(old: Old) -> None:
    await old.redis.set(PREFIX + "ours", b"\x01sealed")
    await old.redis.set(PREFIX + "list", "[]")
    await old.redis.set(PREFIX + "other", '{"cart": 1}')
    await old.redis.set(PREFIX + "nobody", '{"cart": [], "totalAmount": 1}')
    await old.redis.lpush(PREFIX + "odd", "x")
    await old.redis.set("elsewhere", "x")
    before = {key: await old.redis.dump(key) for key in await old.redis.keys()}
    assert await follow(old.w.payments.desk) == set()
    for id_ in ("ours", "list", "other", "nobody", "odd", "missing", "x" * 300, "a\x00b"):
        assert await old.live.read(id_) is None
    assert {key: await old.redis.dump(key) for key in await old.redis.keys()} == before


async def test_a_session_of_our_own_is_never_taken_for_the_old_shops(old: Old) -> None:
    case, _ = await old.paid()
    session = await old.w.open()
    await old.redis.set(PREFIX + session.id, json.dumps(case.row["payload"]))
    assert await follow(old.w.payments.desk) == set()
    assert (await old.w.stored(session.id)).claim is None


async def test_of_two_processes_one_reads(old: Old) -> None:
    case, _ = await old.paid()
    await old.follower.once()
    await old.has(case)
    other = Follower(old.w.payments, owner="other")
    await other.once()
    assert await old.w.store.get(case.session_id) is None
    old.follower.stop()
    await old.follower.run()
    await other.once()
    assert await old.w.store.get(case.session_id) is not None


async def test_a_secret_of_the_old_shops_is_kept_as_its_digest_alone(old: Old) -> None:
    case, _ = await old.paid()
    await old.has(case, callbackToken="the-old-token", note="x")
    await old.follower.once()
    session = await old.stored(case)
    assert session.claim is not None
    assert len(session.claim.token_digest) == 64
    assert "the-old-token" not in repr(session)
    assert session.metadata["note"] == "x"


async def test_more_keys_than_one_answer_holds(old: Old) -> None:
    case, _ = await old.paid()
    payload = json.dumps(case.row["payload"])
    pipe = old.redis.pipeline()
    for n in range(1500):
        pipe.set(f"{PREFIX}many-{n}", payload)
        pipe.set(f"another-{n}", "x")
    await pipe.execute()
    found = [session.id async for batch in old.live.changed() for session in batch]
    assert set(found) == {f"many-{n}" for n in range(1500)}
    assert MOST_REMEMBERED >= len(old.live._seen) == 1500


def test_a_url_that_is_none_is_refused_without_repeating_it() -> None:
    with pytest.raises(SettingsError, match="REDIS_URL") as refused:
        LiveKeys("http://user:secret@host", Clock())
    assert "secret" not in refused.value.message


async def test_what_was_read_with_the_database_is_not_cleared_by_the_key_alone(old: Old) -> None:
    """After a restart the follower reads every key again, without the processed invoices that raised a doubt."""
    case, payment_id = await old.paid()
    await old.has(case)
    [alone] = [session async for batch in old.live.changed() for session in batch]
    checked = replace(alone, doubt="a processed invoice names another session", checked=True)
    await import_session(old.w.payments.desk, checked)
    await old.follower.once()
    await old.w.payments.callback(case.session_id, payment_id)
    session = await old.stored(case)
    assert (session.custody, session.orders, session.exceptions) == (Custody.FOLLOWED, (), {ExceptionName.REVIEW})
