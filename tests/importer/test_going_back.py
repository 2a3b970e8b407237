"""Back to the old shop and back again, on a real Valkey: its keys, its database, and what happens meanwhile."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.importer.filling import execute, fill
from tests.importer.old_shop import cases
from tests.payments.conftest import store_on
from tests.payments.world import KEYS, Clock, World, request, world

from tulbur.cache import MemoryBackend, SessionCache, cache_key
from tulbur.cache.old_keys import RedisOldKeys
from tulbur.cache.redis import RedisBackend
from tulbur.core.custody import Custody
from tulbur.core.moving import imported
from tulbur.core.orders import Item
from tulbur.core.session import SECOND, ExceptionName, Reason, Session, Status
from tulbur.core.steps import asked, invoice_cancelled
from tulbur.errors import Conflict, NotFound, SourceUnavailable
from tulbur.importer.choosing import open_source
from tulbur.importer.going_back import GRACE_SECONDS, GoBack
from tulbur.importer.report import Report
from tulbur.importer.rows import OrderRows, redis_session
from tulbur.importer.sources import Source
from tulbur.stores.harnesses import empty
from tulbur.stores.memory import MemoryStore
from tulbur.stores.network import NetworkStore

pytestmark = [pytest.mark.anyio, pytest.mark.store("valkey")]


class Away:
    """A tulbur whose cache is the old shop's Redis, as it is where tulbur took its place."""

    def __init__(self, w: World, keys: RedisOldKeys, redis: Any) -> None:
        self.w, self.keys, self.redis = w, keys, redis
        self.pauses: list[float] = []
        self.cache_seconds = 600
        self.go = GoBack(w.payments.desk, keys, pause=self.pause)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def out(self, *ids: str, dry_run: bool = False) -> dict[str, int]:
        return outcomes(await self.go.hand_over(ids, dry_run=dry_run))

    async def back(self, *ids: str, source: Source | None = None, dry_run: bool = False) -> dict[str, int]:
        return outcomes(await self.go.take_back(source, ids, cache_seconds=self.cache_seconds, dry_run=dry_run))

    async def value(self, session_id: str) -> Any:
        found = await self.redis.get(cache_key(session_id))
        return None if found is None else json.loads(found)

    async def value_is_ours(self, session: Session) -> bool:
        return bool((await self.redis.get(cache_key(session.id)))[:1] == b"\x01")

    async def stored(self, session: Session) -> Session:
        return await self.w.stored(session.id)


def outcomes(report: Report) -> dict[str, int]:
    assert report.balances
    found: dict[str, int] = {}
    for (_, what), count in report.done.items():
        found[what] = found.get(what, 0) + count
    return found


@pytest.fixture
def valkey(database: Callable[[str], str]) -> str:
    return database("valkey")


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.store("sqlite")), "postgres"])
async def away(request: pytest.FixtureRequest, tmp_path: Path, valkey: str) -> AsyncIterator[Away]:
    clock = Clock()
    store = store_on(request, tmp_path, clock)
    if isinstance(store, NetworkStore):
        await store.start()
        await store._write(empty)
        await store.stop()
    keys, redis = RedisOldKeys(valkey), Redis.from_url(valkey)
    async with world(store, clock, RedisBackend(valkey, seconds=5)) as w:
        await keys.start()
        yield Away(w, keys, redis)
        await keys.stop()
        await redis.aclose()


OUT = {"handed over": 1}


async def test_a_session_goes_out_and_its_key_is_what_the_old_shop_wrote(away: Away) -> None:
    session = await away.w.open(metadata={"sellers": [{"id": "s1"}]})
    assert await away.out(dry_run=True) == OUT
    assert (await away.stored(session)).custody is Custody.OURS
    assert (await away.redis.get(cache_key(session.id)))[:1] == b"\x01", "a dry run changes nothing"
    assert await away.out() == OUT
    stored = await away.stored(session)
    assert (stored.custody, stored.cache_seconds, stored.next_check_at) == (Custody.HANDED_OVER, 0, None)
    assert await away.value(session.id) == {
        "userId": "u1",
        "cart": [
            {"productId": "p1", "shopId": "s1", "quantity": 2, "sale_price": 15000, "title": "Цай"}
            | {"selectedOptions": {}},
            {"productId": "p2", "shopId": "s2", "quantity": 1, "sale_price": 20000, "title": "Аяга"}
            | {"selectedOptions": {}},
        ],
        "sellers": [{"id": "s1"}],
        "totalAmount": 50000,
        "shippingAddressId": None,
        "coupon": None,
        "invoiceId": session.attempts[0].id,
    }
    assert 1790 <= await away.redis.ttl(cache_key(session.id)) <= 1800
    value = await away.redis.get(cache_key(session.id))
    now, orders = away.w.clock(), OrderRows({})
    old = redis_session(session.id, value, now=now, ttl_seconds=1800, processed=[], orders=orders)
    again = imported(old, now)
    assert (again.items, again.amount, again.discount) == (session.items, session.amount, None)
    assert again.attempts[0].id == session.attempts[0].id
    assert await away.out() == {"handed over before": 1}
    assert await away.redis.get(cache_key(session.id)) == value


async def test_a_key_that_is_missing_is_written_again_for_the_rest_of_the_time(away: Away) -> None:
    session = await away.w.open()
    await away.out()
    before = await away.value(session.id)
    await away.redis.flushdb()
    away.w.clock.advance(1799.5)
    again = {"handed over before, its key was missing and is written again": 1}
    assert await away.out(dry_run=True) == again
    assert await away.value(session.id) is None
    assert await away.out() == again
    assert await away.value(session.id) == before
    assert await away.redis.ttl(cache_key(session.id)) == 1, "at least a second"
    away.w.clock.advance(1)
    assert await away.out() == {"handed over before, its time is over": 1}


async def test_what_our_caches_do_meanwhile_leaves_the_key_alone(away: Away) -> None:
    session = await away.w.open()
    stale = await away.stored(session)
    await away.out()
    key = await away.redis.get(cache_key(session.id))
    errors: list[str] = []
    backend = RedisBackend(away.w.cache._backend._url, seconds=5)  # type: ignore[attr-defined]
    serving = SessionCache(backend, KEYS, away.w.clock, on_error=errors.append, timeout_seconds=10)
    await serving.put(stale)  # a process that read the row just before
    assert await serving.get(session.id) is None
    await serving.drop(session.id)
    payment = await away.w.pay(session)
    assert await away.w.payments.callback(session.id, payment) == "paid"
    assert (await away.w.payments.get(session.id)).exceptions == {ExceptionName.HANDED_OVER}
    assert await away.redis.get(cache_key(session.id)) == key
    assert errors == [], "it is no poison either"
    await serving.stop()


async def test_a_process_with_a_cache_of_its_own_forgets_it_at_the_next_commit(valkey: str) -> None:
    clock, keys = Clock(), RedisOldKeys(valkey)
    async with world(MemoryStore(clock), clock) as w:
        session = await w.open()
        # Another process exports: this one's cache hears nothing of it.
        other = GoBack(
            replace(w.payments.desk, cache=SessionCache(MemoryBackend(clock), KEYS, clock)), keys, pause=no_pause
        )
        assert outcomes(await other.hand_over(dry_run=False)) == OUT
        assert (await w.payments.get(session.id)).custody is Custody.OURS, "at worst old"
        payment = await w.pay(session)
        assert await w.payments.callback(session.id, payment) == "paid"
        assert (await w.payments.get(session.id)).exceptions == {ExceptionName.HANDED_OVER}
    await keys.stop()


async def no_pause(_seconds: float) -> None: ...


async def test_money_that_comes_meanwhile_is_held_and_ordered_once_it_is_back(away: Away) -> None:
    session = await away.w.open()
    await away.out()
    payment = await away.w.pay(session)
    for _ in range(2):
        assert await away.w.payments.callback(session.id, payment) in ("paid", "repeated")
    away.w.clock.advance(86_400)
    await away.w.worker.once()
    await away.w.payments.check(session.id, Reason.OPERATOR)
    held = await away.stored(session)
    assert (held.status, held.orders, held.sum("held")) == (Status.PENDING, (), session.amount)
    assert held.exceptions == {ExceptionName.HANDED_OVER}
    with pytest.raises(Conflict, match="old shop"):
        await away.w.payments.cancel(session.id)
    assert await away.out() == {"paid after it was handed over: take it back": 1}
    assert await away.back(session.id, dry_run=True) == {"taken back": 1}
    assert (await away.stored(session)).custody is Custody.HANDED_OVER
    assert await away.back(session.id) == {"taken back, orders made now": 1}
    paid = await away.stored(session)
    assert (paid.status, len(paid.orders), paid.sum("ordered")) == (Status.PAID, 2, session.amount)
    assert paid.exceptions <= {ExceptionName.LATE}
    assert await away.value_is_ours(session)
    assert await away.back(session.id) == {"not handed over": 1}
    assert await away.w.payments.callback(session.id, payment) == "repeated"
    types = [event.type for event in await away.w.store.history(session.id, 99)]
    assert types.count("session.paid") == 1


async def test_money_that_is_at_qpay_already_is_ordered_here_first(away: Away) -> None:
    session = await away.w.open()
    await away.w.pay(session)
    assert await away.out() == {"paid at QPay, orders made here": 1}
    assert (await away.stored(session)).status is Status.PAID
    assert (await away.redis.get(cache_key(session.id)))[:1] == b"\x01"


async def test_what_must_not_go_out_stays_and_is_told(away: Away) -> None:
    short, bare, foreign, fine, over = [
        await away.w.open(),
        await away.w.open(items=(), amount=100_00),
        await away.w.open(),
        await away.w.open(),
        await away.w.open(expires_in=60),
    ]
    payment = await away.w.pay(short, "10")
    await away.w.payments.callback(short.id, payment)
    theirs = b'{"userId": "u2", "cart": [], "totalAmount": 1}'
    await away.redis.set(cache_key(foreign.id), theirs)
    away.w.clock.advance(61)
    report = await away.go.hand_over(dry_run=False)
    assert report.balances
    assert {problem.id: problem.what for problem in report.problems} == {
        short.id: "money has come for it, it is settled here",
        bare.id: "the old shop's shape cannot say it",
        foreign.id: "its key holds something else",
    }
    assert outcomes(report)["the payer's time is over, it is settled here"] == 1
    assert await away.redis.get(cache_key(foreign.id)) == theirs
    custody = {s.id: (await away.stored(s)).custody for s in (short, bare, foreign, over)}
    assert set(custody.values()) == {Custody.OURS}
    assert (await away.stored(fine)).custody is Custody.HANDED_OVER


async def test_while_qpay_is_silent_nothing_goes_out(away: Away) -> None:
    session = await away.w.open()
    await away.w.faults(reply={"payment_check": {"status": 500}})
    report = await away.go.hand_over(dry_run=False)
    assert [problem.what for problem in report.problems] == ["QPay did not answer"]
    assert (await away.stored(session)).custody is Custody.OURS
    await away.w.faults()
    away.w.clock.advance(60)
    assert await away.out() == OUT


async def test_a_question_under_way_is_waited_for(away: Away) -> None:
    session = await away.w.open()
    before = await away.stored(session)
    await away.w.payments.desk.commit(before, asked(before, Reason.PAYER, away.w.clock()))
    report = await away.go.hand_over(dry_run=False)
    assert [problem.what for problem in report.problems] == ["a question to QPay is under way"]
    away.w.clock.advance(21)
    assert await away.out() == OUT


async def test_the_old_shops_own_key_of_this_very_session_is_left_as_it_is(away: Away) -> None:
    away.cache_seconds = 0
    session = await away.w.open(cache_seconds=0)
    await away.out()
    written = await away.value(session.id)
    await away.back()
    lines = [{**line, "sale_price": float(line["sale_price"]), "_id": line["productId"]} for line in written["cart"]]
    theirs = json.dumps({"userId": "u1", "cart": lines, "totalAmount": 50000.0, "seen": [1]}).encode()
    await away.redis.set(cache_key(session.id), theirs)
    assert await away.out() == OUT
    assert await away.redis.get(cache_key(session.id)) == theirs
    assert await away.back() == {"taken back": 1}
    assert await away.redis.get(cache_key(session.id)) != theirs, "it is taken from the old shop"


async def test_a_repeated_opening_makes_no_other_invoice(away: Away) -> None:
    session = await away.w.open(id="S1", scope="s", idempotency_key="k")
    await away.out()
    again = await away.w.payments.open(request(id="S1", scope="s", idempotency_key="k"))
    assert (again.custody, again.payable == session.payable) == (Custody.HANDED_OVER, True)
    await away.w.payments.desk.step("S1", lambda s: invoice_cancelled(s, 1, away.w.clock()))
    again = await away.w.payments.open(request(id="S1", scope="s", idempotency_key="k"))
    assert (again.payable, len(again.attempts)) == (None, 1), "the old shop would not know of another one"
    assert len(away.w.invoices()) == 1


async def test_hundreds_go_out_and_come_back(away: Away) -> None:
    count = 30
    for n in range(count):
        away.w.clock.advance(0.01)
        await away.w.open(items=(Item(shop_id="s", product_id=f"p{n}", title="", quantity=1, unit_price=50_000_00),))
    heard: list[int] = []
    away.go.progress = heard.append
    assert await away.out() == {"handed over": count}
    assert await away.back() == {"taken back": count}
    assert heard[-1] == count
    sessions = [await away.w.stored(s.id) for s in away.w.heard.changes[-count:]]
    due = sorted(min(look.at for look in s.looks if look.reason is Reason.SWEEP) for s in sessions)
    assert due == [away.w.clock() + n * SECOND // 5 for n in range(1, count + 1)], "five a second"
    assert await away.back() == {}


# --- what the old shop did meanwhile


@pytest.fixture
async def shop(away: Away, database: Callable[[str], str]) -> AsyncIterator[tuple[Source, str]]:
    url = database("postgres")
    await fill("postgres", url, cases(0))
    source = open_source(url)
    await source.start()
    yield source, url
    await source.stop()


ORDER = "INSERT INTO \"orders\" VALUES ($1, 'u1', $2, {total}, to_timestamp({at}) AT TIME ZONE 'UTC')"
PROCESSED = """INSERT INTO "QPayProcessedInvoice" VALUES ('x', $1, {session}, 'PROCESSED', {orders}, now())"""


async def order(away: Away, url: str, id_: str, shop_id: str, total: int) -> None:
    await execute(url, ORDER.format(total=total, at=away.w.clock() // SECOND + 1), id_, shop_id)


async def test_orders_of_the_old_shops_count_as_made(away: Away, shop: tuple[Source, str]) -> None:
    source, url = shop
    session, other = await away.w.open(), await away.w.open()
    await away.out()
    await away.w.payments.callback(session.id, await away.w.pay(session))
    await order(away, url, "o1", "s1", 30000)
    await order(away, url, "o2", "s2", 20000)
    named = PROCESSED.format(session="NULL", orders="ARRAY['o1','o2']")
    await execute(url, named, str(session.attempts[0].id))
    there = {"taken back, the old shop had made its orders": 1, "taken back": 1}
    assert await away.back(source=source, dry_run=True) == there
    assert await away.back(source=source) == there
    assert away.pauses == [0, GRACE_SECONDS], "what it had begun may end"
    paid = await away.stored(session)
    assert (paid.status, paid.sum("ordered"), paid.exceptions) == (Status.PAID, session.amount, frozenset())
    assert paid.metadata["old_order_ids"] == {"s1": "o1", "s2": "o2"}
    types = [event.type for event in await away.w.store.history(session.id, 99)]
    assert "order.created" not in types
    assert (await away.stored(other)).custody is Custody.OURS


async def test_an_order_nobody_names_and_a_half_done_one_are_not_made_twice(
    away: Away, shop: tuple[Source, str]
) -> None:
    source, url = shop
    session = await away.w.open()
    await away.out()
    await away.w.payments.callback(session.id, await away.w.pay(session))
    await order(away, url, "o1", "s1", 30000)  # and then it was killed
    assert await away.back(source=source) == {"taken back, orders made now": 1}
    told = [e.data["shop_id"] for e in await away.w.store.history(session.id, 99) if e.type == "order.created"]
    assert told == ["s2"]


async def test_what_the_old_shop_works_on_is_left_to_it(away: Away, shop: tuple[Source, str]) -> None:
    source, url = shop
    keyed, seeded = await away.w.open(), await away.w.open()
    await away.out()
    again = {**(await away.value(keyed.id)), "invoiceId": "another"}
    await away.redis.set(cache_key(keyed.id), json.dumps(again), ex=600)
    row = 'INSERT INTO "QPayPaymentSession" ("id","sessionId","invoiceId","userId","amount","payload","updatedAt")'
    await execute(url, f"{row} VALUES ('x', $1, 'theirs', 'u1', 1, '{{}}', now())", seeded.id)
    report = await away.go.take_back(source, cache_seconds=600)
    assert report.balances
    changed = "the old shop works on it, or has another session under its id"
    assert {p.id: p.what for p in report.problems} == {keyed.id: changed, seeded.id: changed}
    assert {(await away.stored(s)).custody for s in (keyed, seeded)} == {Custody.HANDED_OVER}
    assert await away.value(keyed.id) == again


async def test_a_session_nobody_knows_is_a_sentence(away: Away) -> None:
    with pytest.raises(NotFound):
        await away.out("nobody")


async def test_a_redis_that_does_not_answer_leaves_everything_where_it_was(away: Away) -> None:
    session = await away.w.open()
    silent = RedisOldKeys("redis://u:hidden-word@127.0.0.1:9/0")
    with pytest.raises(SourceUnavailable) as told:
        await GoBack(away.w.payments.desk, silent, pause=away.pause).hand_over(dry_run=False)
    assert "hidden-word" not in told.value.message
    assert (await away.stored(session)).custody is Custody.OURS
    await silent.stop()
