"""Sessions the old shop had in its Redis alone, and finished, lost or changed after they were imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.importer.old_shop import Case, tell_qpay
from tests.importer.running import Old, address, key, named, no_pause, reasons, seed
from tests.payments.world import World

from tulbur.core.custody import Custody
from tulbur.core.session import Session, Status
from tulbur.errors import SourceUnavailable
from tulbur.importer.keys import RedisKeys
from tulbur.importer.moving import Move
from tulbur.importer.rescuing import account, rescue_all

pytestmark = pytest.mark.anyio


@pytest.fixture
async def move(old: Old, redis: Any) -> AsyncIterator[Move]:
    """A move from a shop whose database is empty, and whose Redis is read."""
    made = await old.has([])
    made.keys = RedisKeys(address(redis))
    yield made
    await made.keys.stop()


async def imported(w: World, move: Move, redis: Any, seconds: int = 600, kind: str = "webhook lost") -> Case:
    """A session of Redis alone with more than one shop, paid at QPay and imported."""
    [case] = named(kind)
    assert len(case.shops) > 1
    tell_qpay(w.simulator, [case])
    await seed(redis, case, seconds)
    assert (await move.follow(dry_run=False)).done == {("PENDING", "taken"): 1}
    return case


async def ends(w: World, case: Case) -> tuple[Session, list[str]]:
    """The session after a rescue, with the shops whose orders were announced."""
    await rescue_all(w.payments.desk, pause=no_pause, dry_run=False)
    session = await w.stored(case.session_id)
    told = [e.data["shop_id"] for e in await w.store.history(session.id, 99) if e.type == "order.created"]
    assert (await account(w.payments.desk)).balances
    return session, told


@pytest.mark.parametrize("how", ["by session", "by invoice", "unnamed", "not processed"])
async def test_orders_the_old_shop_made_after_the_import_are_not_made_again(
    w: World, old: Old, redis: Any, move: Move, how: str
) -> None:
    case = await imported(w, move, redis)
    await old.processes(
        case,
        session_id=case.session_id if how == "by session" else None,
        names={"unnamed": 0, "not processed": -1}.get(how, 99),
    )
    await redis.delete(key(case))
    report = await move.take_over()
    assert report.balances
    assert report.done == {("PENDING", "ended in Redis, taken over"): 1}, "its orders are there, so at once"
    session, told = await ends(w, case)
    assert (session.status, session.custody, told) == (Status.PAID, Custody.OURS, [])
    assert session.claim is not None
    assert set(session.claim.orders) == set(session.metadata["old_order_ids"]) == set(case.shops)
    await w.payments.callback(case.session_id, next(iter(w.simulator.ledger.payments)))
    session = await w.stored(case.session_id)
    assert (session.sum("ordered"), session.sum("refund_due")) == (session.amount, 0), "its own payment is no excess"
    assert session.exceptions == frozenset()
    await w.pay_invoice(case.row["invoiceId"])
    for _ in range(2):
        w.clock.advance(30)
        await w.payments.callback(case.session_id, list(w.simulator.ledger.payments)[-1])
    session, told = await ends(w, case)
    assert (session.sum("ordered"), session.sum("refund_due"), told) == (session.amount, session.amount, [])


async def test_of_half_a_set_of_orders_the_other_half_is_made(w: World, old: Old, redis: Any, move: Move) -> None:
    case = await imported(w, move, redis)
    await old.processes(case, session_id=None, makes=1)
    await redis.delete(key(case))
    assert reasons(await move.take_over()).keys() == {case.session_id}, "it may still be making them"
    w.clock.advance(661)
    report = await move.take_over()
    assert (report.fine, report.done) == (True, {("PENDING", "ended in Redis, taken over"): 1})
    session, told = await ends(w, case)
    assert (session.status, told) == (Status.PAID, case.shops[1:])


async def test_a_key_that_vanished_before_its_time_waits_for_it(w: World, redis: Any, move: Move) -> None:
    case = await imported(w, move, redis, seconds=300)
    await redis.delete(key(case))
    for seconds, done in ((290, False), (60, False), (20, True)):
        w.clock.advance(seconds)
        assert (await move.take_over()).fine == done
    session, told = await ends(w, case)
    assert (session.status, told) == (Status.PAID, case.shops)


async def test_what_came_back_to_redis_changed_is_still_the_old_shop_s(w: World, redis: Any, move: Move) -> None:
    case = await imported(w, move, redis, seconds=100)
    w.clock.advance(1000)
    await seed(redis, case, shippingAddressId="elsewhere")
    assert reasons(await move.take_over()) == {case.session_id: "the old shop still works on it"}
    await redis.set(key(case), json.dumps({"cart": []}))
    assert case.session_id in reasons(await move.take_over())
    assert (await w.stored(case.session_id)).custody is Custody.FOLLOWED
    await seed(redis, case, shippingAddressId="elsewhere")
    await move.follow(dry_run=False)
    assert (await move.take_over()).done == {("PENDING", "taken over"): 1}


async def test_what_moved_to_the_database_meanwhile_is_read_there(w: World, old: Old, redis: Any, move: Move) -> None:
    case = await imported(w, move, redis, seconds=100)
    w.clock.advance(1000)
    await redis.delete(key(case))
    await old.sql(
        """INSERT INTO "QPayPaymentSession" ("id", "sessionId", "userId", "amount", "payload", "updatedAt")
           SELECT 'x', $1, $2, $3::text::float8, $4::text::jsonb, now()""",
        *(case.session_id, case.row["userId"], repr(case.row["amount"]), json.dumps(case.row["payload"])),
    )
    await old.sql('UPDATE "QPayPaymentSession" SET "status" = \'WEIRD\'')
    assert case.session_id in reasons(await move.take_over())
    assert (await w.stored(case.session_id)).custody is Custody.FOLLOWED


async def test_without_redis_nothing_is_taken_for_gone(w: World, redis: Any, move: Move) -> None:
    case = await imported(w, move, redis, seconds=100)
    w.clock.advance(1000)
    keys, move.keys = move.keys, None
    why = reasons(await move.take_over())
    move.keys = keys
    assert why == {case.session_id: "it was in Redis alone, and Redis was not read; give --redis"}
    assert (await move.take_over()).done == {("PENDING", "taken over"): 1}, "its key is there, unchanged"


async def test_orders_made_before_the_first_reading_count_too(w: World, old: Old, redis: Any, move: Move) -> None:
    invoiced, killed = made = named("webhook lost", "paid late, webhook lost")
    tell_qpay(w.simulator, made)
    for case in made:
        await seed(redis, case)
    await old.processes(invoiced, session_id=None)
    await old.processes(killed, session_id=None, names=0)
    w.clock.advance(30)
    await move.follow(dry_run=False)
    for case in made:
        session = await w.stored(case.session_id)
        assert (session.status, set(session.metadata["old_order_ids"])) == (Status.PAID, set(case.shops))
    assert (await move.take_over()).done == {("PENDING", "taken over"): 2}


async def test_a_key_that_is_named_twice_keeps_its_orders(w: World, old: Old, redis: Any, move: Move) -> None:
    case = await imported(w, move, redis)
    await old.processes(case, session_id=None, names=-1, makes=1)
    move.keys = Twice(move.keys)  # type: ignore[assignment]
    await move.follow(dry_run=False)
    session = await w.stored(case.session_id)
    assert session.claim is not None
    assert list(session.claim.orders) == case.shops[:1]
    await move.take_over()
    session, told = await ends(w, case)
    assert told == case.shops[1:]


class Twice:
    """SCAN names every key twice, as it may while Redis grows its table."""

    def __init__(self, keys: Any) -> None:
        self._keys = keys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keys, name)

    async def batches(self) -> AsyncIterator[Any]:
        async for keys in self._keys.batches():
            yield keys
            yield keys


async def test_an_error_of_redis_is_never_taken_for_nothing_there(w: World, redis: Any, move: Move) -> None:
    case = await imported(w, move, redis)
    await redis.acl_setuser("half", enabled=True, nopass=True, keys=["*"], commands=["+scan", "+pttl", "+select"])
    try:
        keys = move.keys
        move.keys = RedisKeys(address(redis).replace("://", "://half:any@"))
        for run in (move.follow(dry_run=False), move.take_over()):
            with pytest.raises(SourceUnavailable):
                await run
        await move.keys.stop()
        move.keys = keys
    finally:
        await redis.acl_deluser("half")
    assert (await w.stored(case.session_id)).custody is Custody.FOLLOWED


def test_the_move_needs_no_redis_driver_where_no_redis_is_read() -> None:
    code = "import sys; sys.modules['redis'] = None; import tulbur.commands.moving"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
