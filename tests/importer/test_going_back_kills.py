"""Out and back again, killed at each call of a port: never both shops with one session, never neither.

The old shop has a session as long as its key holds it, so that key and our custody are looked at after every kill.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.payments.test_kills import pause, table
from tests.payments.world import Clock

from proving.killing import Dying, Fault, Killer, Process, Shop, SmallQPay, ended
from tulbur.cache.old_keys import RedisOldKeys
from tulbur.core.custody import Custody
from tulbur.core.handing_over import handed_over
from tulbur.core.session import ExceptionName, Reason, Session, Status
from tulbur.importer.going_back import GoBack
from tulbur.importer.report import Report
from tulbur.stores.memory import MemoryStore
from tulbur.stores.sqlite import SqliteStore

pytestmark = [pytest.mark.anyio, pytest.mark.store("valkey")]

SCHEDULES = 60


async def no_pause(_seconds: float) -> None: ...


class Two:
    """Our shop and the old one's Redis."""

    def __init__(self, shop: Shop, keys: RedisOldKeys) -> None:
        self.shop, self.keys = shop, keys

    async def out(self, session_id: str, killer: Killer | None = None) -> Report:
        return await self._go(killer).hand_over([session_id], dry_run=False)

    async def back(self, session_id: str, killer: Killer | None = None) -> Report:
        return await self._go(killer).take_back(None, [session_id], cache_seconds=600)

    def _go(self, killer: Killer | None) -> GoBack:
        killer = killer or Killer()
        keys: Any = Dying("keys", self.keys, killer)
        return GoBack(self.shop.process(killer).payments.desk, keys, pause=no_pause)

    async def judge(self, session_id: str) -> Session:
        session = await self.shop.stored(session_id)
        if await self.keys.get(session_id) is not None:
            assert session.custody is Custody.HANDED_OVER, "two systems have one session"
        return session

    async def opened(self) -> Session:
        return await self.shop.process().open(expires_in=600)

    async def paid(self, session: Session, process: Process | None = None) -> None:
        """The payer pays, and QPay calls the address the invoice was made with: ours."""
        payment = self.shop.qpay.pay(str(session.attempts[0].id))
        process = process or self.shop.process()
        await process.payments.callback(session.id, payment)


@pytest.fixture(params=["memory", "sqlite"])
async def two(request: pytest.FixtureRequest, tmp_path: Path, database: Callable[[str], str]) -> AsyncIterator[Two]:
    clock = Clock()
    store = MemoryStore(clock) if request.param == "memory" else SqliteStore(tmp_path / "t.db", clock)
    keys = RedisOldKeys(database("valkey"))
    await store.start()
    yield Two(Shop(store, clock, SmallQPay(clock)), keys)
    await store.stop()
    await keys.stop()


async def test_going_out_is_finished_by_the_next_run_wherever_it_ends(two: Two) -> None:
    async def run(killer: Killer) -> None:
        session = await two.opened()
        await ended(two.out(session.id, killer))
        await two.judge(session.id)
        two.shop.clock.advance(31)
        await two.out(session.id)
        away = await two.judge(session.id)
        assert away.custody is Custody.HANDED_OVER
        assert await two.keys.get(session.id) is not None, "the old shop has it"
        await two.paid(session)
        held = await two.judge(session.id)
        assert (held.orders, held.exceptions) == ((), {ExceptionName.HANDED_OVER})
        await two.back(session.id)
        assert (await two.shop.at_rest(session.id)).status is Status.PAID

    await table(run)


async def test_money_that_comes_while_a_run_is_killed_is_never_lost(two: Two) -> None:
    async def run(killer: Killer) -> None:
        session = await two.opened()
        await ended(two.out(session.id, killer))
        await two.paid(session)
        stored = await two.judge(session.id)
        away = stored.custody is Custody.HANDED_OVER
        assert (ExceptionName.HANDED_OVER in stored.exceptions, bool(stored.orders)) == (away, not away)
        two.shop.clock.advance(31)
        await two.out(session.id)
        await two.judge(session.id)
        await two.back(session.id)
        assert (await two.shop.at_rest(session.id)).status is Status.PAID

    await table(run)


@pytest.mark.parametrize("pays", [True, False])
async def test_coming_back_is_finished_by_the_next_run_wherever_it_ends(two: Two, pays: bool) -> None:
    async def run(killer: Killer) -> None:
        session = await two.opened()
        await two.out(session.id)
        if pays:
            await two.paid(session)
        await ended(two.back(session.id, killer))
        await two.judge(session.id)
        two.shop.clock.advance(31)
        await two.back(session.id)
        assert await two.keys.get(session.id) is None
        rested = await two.shop.at_rest(session.id)
        assert rested.status is (Status.PAID if pays else Status.EXPIRED)
        assert rested.exceptions <= {ExceptionName.LATE}

    await table(run)


async def test_a_run_killed_on_the_way_back_can_go_out_again(two: Two) -> None:
    async def run(killer: Killer) -> None:
        session = await two.opened()
        await two.out(session.id)
        await ended(two.back(session.id, killer))
        two.shop.clock.advance(31)
        await two.out(session.id)
        away = await two.judge(session.id)
        assert away.custody is Custody.HANDED_OVER
        assert await two.keys.get(session.id) is not None

    await table(run, (Fault.KILLED_AFTER, Fault.LOST))


async def test_everything_at_once_makes_one_order_set(two: Two) -> None:
    for seed in range(SCHEDULES):
        await schedule(two, Random(seed))


async def schedule(two: Two, chance: Random) -> None:
    """Out, back, a payer, QPay's callback and the worker, each call taking its own time; any of them may die."""
    session = await two.opened()
    killers = [Killer(chance.randrange(1, 30), chance.choice(list(Fault)), pace=chance) for _ in range(2)]
    processes = [two.shop.process(killer) for killer in killers]

    async def one(act: Callable[[], Awaitable[object]]) -> None:
        await pause(chance)
        await ended(act())

    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: two.out(session.id, killers[0]),
        lambda: two.back(session.id, killers[1]),
        lambda: two.out(session.id),
        lambda: two.paid(session, processes[0]),
        processes[1].worker.once,
    ]
    chance.shuffle(acts)
    await asyncio.gather(*(one(act) for act in acts))
    await asyncio.gather(*(process.payments.stop() for process in processes))
    (bill,) = two.shop.bills(session)
    await two.shop.process().payments.callback(session.id, bill.payments[0].id)
    two.shop.clock.advance(61)
    await two.back(session.id)
    await two.judge(session.id)
    assert (await two.shop.at_rest(session.id)).status is Status.PAID


class Interrupted:
    """The old shop's keys; the first call of one name runs something else before or after it."""

    def __init__(self, keys: RedisOldKeys, name: str, *, before: bool, act: Callable[[], Awaitable[object]]) -> None:
        self._keys, self._name, self._before, self._act = keys, name, before, act
        self._acted = False

    def __getattr__(self, name: str) -> Any:
        async def called(*args: Any) -> Any:
            acts = name == self._name and not self._acted
            self._acted = self._acted or acts
            if acts and self._before:
                await self._act()
            done = await getattr(self._keys, name)(*args)
            if acts and not self._before:
                await self._act()
            return done

        return called


async def test_two_runs_in_opposite_directions_never_leave_it_to_both(two: Two) -> None:
    for name, before in (("put", True), ("put", False), ("remove", True), ("remove", False)):
        session = await two.opened()
        if name == "remove":
            await two.out(session.id)

        async def other(session_id: str = session.id, name: str = name) -> object:
            return await (two.back(session_id) if name == "put" else two.out(session_id))

        keys: Any = Interrupted(two.keys, name, before=before, act=other)
        go = GoBack(two.shop.process().payments.desk, keys, pause=no_pause)
        if name == "put":
            await go.hand_over([session.id], dry_run=False)
        else:
            await go.take_back(None, [session.id], cache_seconds=600)
        assert (await two.judge(session.id)).custody is Custody.OURS
        assert await two.keys.get(session.id) is None


async def test_an_answer_under_way_when_it_goes_out_makes_no_order(two: Two) -> None:
    session = await two.opened()
    two.shop.qpay.pay(str(session.attempts[0].id))

    async def goes_out(name: str) -> None:
        # The question was claimed long before, so that another run may act; its answer is not there yet.
        stored = await two.shop.stored(session.id)
        two.shop.clock.advance(30)
        if name == "check" and stored.custody is Custody.OURS:
            await two.shop.store.commit(stored, handed_over(stored, two.shop.clock()))

    two.shop.qpay.before = goes_out
    await two.shop.process().payments.check(session.id, Reason.OPERATOR)
    stored = await two.shop.stored(session.id)
    assert (stored.custody, stored.orders) == (Custody.HANDED_OVER, ())
    assert (stored.exceptions, stored.sum("held")) == ({ExceptionName.HANDED_OVER}, session.amount)
