"""Streams under a clock that only the test moves: each tick of a session is let through by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.web.checkout_world import Shelf, changed, paid, uninvoiced, waiting

from tulbur.core import steps
from tulbur.core.session import Session
from tulbur.errors import StoreUnavailable
from tulbur.ports import EventSink
from tulbur.web.live import HEARTBEAT_TICKS, STREAM_TICKS, TICK_SECONDS, LiveSessions, Stream, TooManyStreams

pytestmark = pytest.mark.anyio

BEAT = b": \n\n"


class Sleep:
    """Sleeps until the test says that the time is over."""

    def __init__(self) -> None:
        self.sleeping: list[asyncio.Future[None]] = []

    async def __call__(self, seconds: float) -> None:
        assert seconds == TICK_SECONDS
        future = asyncio.get_running_loop().create_future()
        self.sleeping.append(future)
        try:
            await future
        finally:
            self.sleeping.remove(future)

    async def over(self) -> None:
        """One tick of every session, and all that follows from it."""
        await settled()
        for future in self.sleeping:
            future.set_result(None)
        await settled()


@pytest.fixture
def sleep() -> Sleep:
    return Sleep()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def live(sleep: Sleep) -> Iterator[LiveSessions]:
    made = LiveSessions(sleep=sleep, most=6, most_per_session=4)
    yield made
    made.close()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def opened(live: LiveSessions, shelf: Shelf, session: Session) -> Stream:
    """A stream that has sent the state it began with."""
    stream = live.open(session.id, shelf.get)
    stream.saw(shelf.put(session))
    assert data(await stream.next())["status"] == session.status
    return stream


def data(piece: bytes | None) -> Any:
    assert piece is not None
    event, line = piece.decode().removesuffix("\n\n").split("\n")
    assert event == "event: status"
    return json.loads(line.removeprefix("data: "))


def test_it_listens_like_every_event_sink() -> None:
    sink: EventSink = LiveSessions()
    sink.changed(waiting())


async def test_the_state_comes_at_once_and_then_nothing(live: LiveSessions, shelf: Shelf) -> None:
    stream = await opened(live, shelf, waiting())
    following = asyncio.create_task(stream.next())
    await settled()
    assert not following.done()
    stream.end()
    assert await following is None


async def test_a_commit_here_is_sent_before_any_read(live: LiveSessions, shelf: Shelf) -> None:
    stream = await opened(live, shelf, waiting())
    cancelled = steps.cancelled(waiting(), waiting().created_at)
    assert cancelled.news
    live.changed(cancelled)
    assert data(await stream.next())["status"] == "CANCELLED"
    assert shelf.reads == 0


async def test_a_commit_that_changes_no_status_sends_nothing(live: LiveSessions, shelf: Shelf, sleep: Sleep) -> None:
    stream = await opened(live, shelf, waiting())
    live.changed(changed(waiting(), last_check_at=1))
    following = asyncio.create_task(stream.next())
    await settled()
    assert not following.done()
    following.cancel()


async def test_another_process_is_noticed_by_one_read_for_all_streams(
    live: LiveSessions, shelf: Shelf, sleep: Sleep
) -> None:
    streams = [await opened(live, shelf, waiting()) for _ in range(3)]
    shelf.put(steps.cancelled(waiting(), 0).committed())
    await sleep.over()
    assert shelf.reads == 1
    assert [data(await stream.next())["status"] for stream in streams] == ["CANCELLED"] * 3


async def test_an_older_state_is_never_sent(live: LiveSessions, shelf: Shelf, sleep: Sleep) -> None:
    stream = await opened(live, shelf, waiting())
    live.changed(changed(changed(paid(), return_url=None)))
    shelf.put(waiting())
    await sleep.over()
    stream.saw(waiting())
    assert data(await stream.next())["status"] == "PAID"
    assert await stream.next() is None


async def test_a_slow_reader_gets_only_the_latest_state(live: LiveSessions, shelf: Shelf) -> None:
    stream = live.open("S1", shelf.get)
    stream.saw(uninvoiced())
    live.changed(waiting())
    live.changed(changed(paid()))
    assert data(await stream.next())["status"] == "PAID"
    assert await stream.next() is None


async def test_paid_is_sent_with_its_orders_and_ends_the_stream(live: LiveSessions, shelf: Shelf) -> None:
    stream = await opened(live, shelf, waiting())
    live.changed(paid())
    assert data(await stream.next()) == {
        "status": "PAID",
        "exceptions": [],
        "amount": "50000.00",
        "expires_at": "2026-09-21T14:43:20Z",
        "orders": [order.id for order in paid().orders],
    }
    assert await stream.next() is None


async def test_a_heartbeat_comes_every_few_ticks(live: LiveSessions, shelf: Shelf, sleep: Sleep) -> None:
    stream = await opened(live, shelf, waiting())
    following = asyncio.create_task(stream.next())
    for _ in range(HEARTBEAT_TICKS - 1):
        await sleep.over()
    assert not following.done()
    await sleep.over()
    assert await following == BEAT


async def test_a_stream_ends_by_itself(live: LiveSessions, shelf: Shelf, sleep: Sleep) -> None:
    stream = await opened(live, shelf, waiting())
    for _ in range(STREAM_TICKS):
        await sleep.over()
    assert await stream.next() is None


async def test_a_database_that_is_away_is_read_again(live: LiveSessions, shelf: Shelf, sleep: Sleep) -> None:
    stream = await opened(live, shelf, waiting())
    shelf.down = True
    await sleep.over()
    shelf.down = False
    shelf.put(changed(paid()))
    await sleep.over()
    assert data(await stream.next())["status"] == "PAID"
    assert shelf.reads == 2


async def test_a_bug_while_reading_ends_the_streams_and_is_told(live: LiveSessions, sleep: Sleep) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def read(_: str) -> Session:
        raise ZeroDivisionError

    stream = live.open("S1", read)
    await settled()
    await sleep.over()
    assert await stream.next() is None
    assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
    fresh = live.open("S1", read)
    stream.close()
    await settled()
    assert len(sleep.sleeping) == 1
    fresh.close()
    assert live.streams == 0


async def test_there_are_only_so_many_streams(live: LiveSessions, shelf: Shelf) -> None:
    streams = [live.open("S1", shelf.get) for _ in range(4)]
    with pytest.raises(TooManyStreams):
        live.open("S1", shelf.get)
    streams += [live.open("S2", shelf.get) for _ in range(2)]
    with pytest.raises(TooManyStreams):
        live.open("S3", shelf.get)
    streams[0].close()
    live.open("S1", shelf.get).close()


async def test_the_last_stream_of_a_session_frees_everything(live: LiveSessions, shelf: Shelf, sleep: Sleep) -> None:
    streams = [await opened(live, shelf, waiting()) for _ in range(2)]
    await settled()
    assert (live.streams, len(sleep.sleeping)) == (2, 1)
    streams[0].close()
    streams[0].close()
    await settled()
    assert (live.streams, len(sleep.sleeping)) == (1, 1)
    streams[1].close()
    await settled()
    assert (live.streams, len(sleep.sleeping)) == (0, 0)
    live.changed(paid())


async def test_closing_ends_every_stream_and_takes_no_more_until_started(live: LiveSessions, shelf: Shelf) -> None:
    streams = [await opened(live, shelf, waiting()), await opened(live, shelf, waiting(id="S2"))]
    following = [asyncio.create_task(stream.next()) for stream in streams]
    await settled()
    live.close()
    assert await asyncio.gather(*following) == [None, None]
    with pytest.raises(TooManyStreams):
        live.open("S3", shelf.get)
    live.start()
    live.open("S3", shelf.get).close()


async def test_what_was_seen_is_sent_before_the_end(live: LiveSessions, shelf: Shelf) -> None:
    stream = await opened(live, shelf, waiting())
    live.changed(paid())
    live.close()
    assert data(await stream.next())["status"] == "PAID"
    assert await stream.next() is None


async def test_nothing_known_yet_sends_nothing(live: LiveSessions, shelf: Shelf, sleep: Sleep) -> None:
    shelf.down = True
    stream = live.open("S1", shelf.get)
    await settled()
    await sleep.over()
    with pytest.raises(StoreUnavailable):
        await shelf.get("S1")
    live.close()
    assert await stream.next() is None
