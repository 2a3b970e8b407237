"""From a commit to the shop: in order within a session, at least once, on a schedule, then parked and replayable."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from tests.events.receiver import SECRET, Receiver, status
from tests.payments.world import World

import tulbur.payments.delivering as delivering_module
from tulbur.core.delivering import WAITS_SECONDS
from tulbur.core.session import PUBLIC_EVENTS, Reason
from tulbur.errors import StoreUnavailable
from tulbur.events import Webhook
from tulbur.payments.delivering import replay_events
from tulbur.ports import Delivery, NumberedEvent, Outcome, Shop
from tulbur.worker import DELIVERED_AT_ONCE, LEASE_SECONDS, Deliverer

pytestmark = pytest.mark.anyio

KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
HOUR = 3600


@contextlib.asynccontextmanager
async def delivering(w: World, shop: Receiver, *, owner: str = "d") -> AsyncIterator[Deliverer]:
    webhook = Webhook(shop.url, [KEY], w.clock, allow_private=True)
    await webhook.start()
    try:
        yield deliverer(w, webhook, owner=owner)
    finally:
        await webhook.stop()


def deliverer(w: World, webhook: Shop, *, owner: str = "d") -> Deliverer:
    return Deliverer(w.payments, webhook, owner=owner, chance=lambda: 0.5)


async def settled(d: Deliverer) -> None:
    """Rounds until one finds nothing."""
    async with asyncio.timeout(120):
        while await d.once():
            pass


async def paid(w: World) -> str:
    """A session that is opened, paid and ordered; its id."""
    session = await w.open()
    await w.pay(session)
    await w.payments.check(session.id, Reason.OPERATOR)
    return session.id


async def public(w: World, session_id: str) -> list[str]:
    """The ids of what the shop is to be told of a session, in order."""
    return [event.id for event in await w.store.history(session_id, 200) if event.type in PUBLIC_EVENTS]


async def counts(w: World) -> tuple[int, int]:
    stats = await w.store.stats(w.clock())
    return stats.events_undelivered, stats.events_parked


async def test_the_shop_hears_everything_in_order(w: World, shop: Receiver) -> None:
    ids = [await paid(w) for _ in range(3)]
    async with delivering(w, shop) as d:
        await settled(d)
    for session_id in ids:
        told = [message for message in shop.messages if message.session_id == session_id]
        assert [message.id for message in told] == await public(w, session_id)
        types = [message.document["type"] for message in told]
        assert types[0] == "session.opened"
        assert types.count("order.created") == 2
    assert len({message.id for message in shop.messages}) == len(shop.messages)
    assert await counts(w) == (0, 0)


@pytest.mark.parametrize("seed", range(3))
async def test_order_and_completeness_under_failures(w: World, shop: Receiver, seed: int) -> None:
    chance, failures = random.Random(seed), Counter[str]()

    async def answer(request: web.Request) -> web.StreamResponse:
        luck = chance.random()
        failures[request.headers["webhook-id"]] += luck <= 0.45
        if failures[request.headers["webhook-id"]] >= len(WAITS_SECONDS):
            luck = 1  # one failure more, and it would be parked
        if luck < 0.2:
            assert request.transport
            request.transport.close()
        return web.Response(status=200 if luck > 0.45 else 500)

    shop.answer = answer
    ids = [await paid(w) for _ in range(3)]
    async with delivering(w, shop) as d:
        for _ in range(200):
            while await d.once():
                pass
            if await counts(w) == (0, 0):
                break
            w.clock.advance(12 * HOUR)
    assert await counts(w) == (0, 0)
    assert len(shop.taken) < len(shop.messages), "some of it failed"
    for session_id in ids:
        told = [message.id for message in shop.messages if message.session_id == session_id]
        in_turn = [id_ for id_, _ in itertools.groupby(told)]
        assert in_turn == await public(w, session_id), "a later event never goes before an earlier one is taken"


async def test_sessions_do_not_wait_for_each_other(w: World, shop: Receiver) -> None:
    stuck, other = await paid(w), await paid(w)

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500 if stuck.encode() in await request.read() else 204)

    shop.answer = answer
    async with delivering(w, shop) as d:
        await settled(d)
    assert [m.id for m in shop.taken] == await public(w, other)
    assert {m.id for m in shop.messages} - {m.id for m in shop.taken} == {(await public(w, stuck))[0]}


# --- at least once


class Dying:
    """A shop that takes the event, after which the process does not live to hear of it."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self.taken = asyncio.Event()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def deliver(self, numbered: NumberedEvent) -> Delivery:
        await self._webhook.deliver(numbered)
        self.taken.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_kill_after_the_delivery_delivers_the_same_again(w: World, shop: Receiver) -> None:
    session_id = await paid(w)
    async with delivering(w, shop, owner="other") as other:
        webhook = other._shop
        assert isinstance(webhook, Webhook)
        dying = Dying(webhook)
        killed = asyncio.create_task(deliverer(w, dying).once())
        async with asyncio.timeout(60):
            await dying.taken.wait()
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
        [first] = shop.messages
        assert not await other.once(), "until the lease ends it may still be under way"
        assert len(shop.messages) == 1
        w.clock.advance(LEASE_SECONDS + 1)
        await settled(other)
    again = shop.messages[1]
    assert (again.id, again.body) == (first.id, first.body)
    assert [m.id for m in shop.messages[1:]] == await public(w, session_id)
    assert await counts(w) == (0, 0)


async def test_an_answer_that_could_not_be_written_down(
    w: World, shop: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = await w.open()
    done = w.store.events_done

    async def away(owner: str, event_ids: Any) -> None:
        raise StoreUnavailable

    async with delivering(w, shop) as d:
        monkeypatch.setattr(w.store, "events_done", away)
        await d.once()
        monkeypatch.setattr(w.store, "events_done", done)
        w.clock.advance(LEASE_SECONDS + 1)
        await settled(d)
    first = (await public(w, session.id))[0]
    assert [m.id for m in shop.messages].count(first) == 2
    assert await counts(w) == (0, 0)
    assert "a delivery was not written down" in caplog.text


async def test_two_processes_share_the_work(w: World, shop: Receiver) -> None:
    ids = [await paid(w) for _ in range(3)]
    async with delivering(w, shop, owner="a") as a, delivering(w, shop, owner="b") as b:
        await asyncio.gather(settled(a), settled(b))
        await settled(a)
    for session_id in ids:
        assert [m.id for m in shop.messages if m.session_id == session_id] == await public(w, session_id)


# --- the schedule, and its end


async def test_eight_times_over_about_28_hours_then_it_is_parked(
    w: World, shop: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    session = await w.open()
    first, second = await public(w, session.id)
    shop.answer = status(500)
    begun = w.clock()
    async with delivering(w, shop) as d:
        await d.once()
        for attempt, seconds in enumerate(WAITS_SECONDS, 1):
            w.clock.advance(seconds - 1)
            await d.once()
            assert len(shop.messages) == attempt, "not before its time"
            w.clock.advance(1)
            await d.once()
            assert [m.id for m in shop.messages] == [first] * (attempt + 1)
        assert (w.clock() - begun) / 1e6 == sum(WAITS_SECONDS)
        assert await counts(w) == (1, 1)
        [parked] = await w.store.parked(0, 10)
        assert (parked.event.id, parked.attempts) == (first, len(WAITS_SECONDS) + 1)
        [told] = [r for r in caplog.records if r.message == "an event is parked"]
        assert (told.levelno, told.__dict__["event_id"], told.__dict__["status"]) == (logging.ERROR, first, 500)
        # The shop is back: what comes later is not held up, and the parked one waits for a person.
        shop.answer = status(204)
        await settled(d)
        assert [m.id for m in shop.taken] == [second]
        w.clock.advance(100 * HOUR)
        await settled(d)
        assert [m.id for m in shop.taken] == [second]
        # Replayed, it has its attempts again.
        assert await replay_events(w.store, since=0, before=w.clock(), parked_only=True) == 1
        await settled(d)
        assert [m.id for m in shop.taken] == [second, first]
    assert await counts(w) == (0, 0)


async def test_a_shop_that_asks_for_a_pause_gets_one(w: World, shop: Receiver) -> None:
    await w.open()
    shop.answer = status(503, Retry_After="900")
    async with delivering(w, shop) as d:
        await d.once()
        w.clock.advance(899)
        await d.once()
        assert len(shop.messages) == 1
        w.clock.advance(1)
        await d.once()
        assert len(shop.messages) == 2


async def test_everything_since_a_time_is_sent_again_under_the_same_ids(w: World, shop: Receiver) -> None:
    await paid(w)
    w.clock.advance(HOUR)
    since = w.clock()
    later = [await paid(w) for _ in range(2)]
    async with delivering(w, shop) as d:
        await settled(d)
        sent = {m.id: m.body for m in shop.messages}
        shop.messages.clear()
        count = await replay_events(w.store, since=since, before=w.clock() + 1)
        await settled(d)
    expected = [id_ for session_id in later for id_ in await public(w, session_id)]
    assert sorted(m.id for m in shop.messages) == sorted(expected)
    assert count == len(expected)
    assert all(sent[m.id] == m.body for m in shop.messages)


async def test_a_replay_goes_on_from_page_to_page(w: World, shop: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering_module, "MOST_ROWS", 3)
    for _ in range(4):
        await w.open()
    async with delivering(w, shop) as d:
        await settled(d)
    count = len(shop.messages)
    assert count > 2 * 3
    assert await replay_events(w.store, since=0, before=w.clock() + 1) == count
    assert await counts(w) == (count, 0)


# --- the loop


async def test_a_round_tells_how_it_went(w: World, shop: Receiver) -> None:
    async with delivering(w, shop) as d:
        assert await d.once() is False
        await w.open()
        assert await d.once() is True
        await settled(d)
        session_ids = {(await w.open()).id for _ in range(DELIVERED_AT_ONCE + 1)}
        assert await d.once() is True
        assert {m.session_id for m in shop.messages[-DELIVERED_AT_ONCE:]} <= session_ids
        await settled(d)
        await w.open()
        shop.answer = status(500)
        assert await d.once() is False, "it answers, so other events need not wait"


async def test_a_shop_that_is_not_there_slows_the_loop(w: World) -> None:
    class Away:
        async def start(self) -> None: ...

        async def stop(self) -> None: ...

        async def deliver(self, numbered: NumberedEvent) -> Delivery:
            return Delivery(Outcome.UNREACHABLE)

    await w.open()
    assert await deliverer(w, Away()).once() is None


async def test_it_runs_until_it_is_told_to_stop(w: World, shop: Receiver) -> None:
    session = await w.open()
    arrived = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if b"session.invoiced" in await request.read():
            arrived.set()
        return web.Response()

    shop.answer = answer
    async with delivering(w, shop) as d:
        running = asyncio.create_task(d.run())
        async with asyncio.timeout(60):
            await arrived.wait()
            d.stop()
            await running
    assert [m.id for m in shop.messages] == await public(w, session.id)
