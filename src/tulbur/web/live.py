"""Live pages: streams of a session's status that end by themselves, one reader per session behind all of them.

Everything a stream does by time hangs on its session's ticker, so that a stream only ever waits for one event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from tulbur.core.session import Reason, Session, Status
from tulbur.errors import TulburError
from tulbur.ports import SweepRun
from tulbur.web.checkout_view import status_json

Read: TypeAlias = Callable[[str], Awaitable[Session]]
"""Reads a session, from the cache where it is fresh; raises a TulburError where it cannot."""

Sleep: TypeAlias = Callable[[float], Awaitable[None]]

TICK_SECONDS: Final = 3.0
"""How often a session with streams is read again, for what other processes changed."""

HEARTBEAT_TICKS: Final = 5
"""A comment every 15 s, so that proxies keep the connection."""

STREAM_TICKS: Final = 200
"""A stream ends after 10 minutes; the browser opens the next one."""

MOST_STREAMS: Final = 2000
MOST_PER_SESSION: Final = 20


class TooManyStreams(Exception):
    """No stream is free: the page has to poll."""


class LiveSessions:
    """The open streams of this process. An EventSink, of which only `changed` matters; nothing here waits or raises."""

    def __init__(
        self, *, sleep: Sleep = asyncio.sleep, most: int = MOST_STREAMS, most_per_session: int = MOST_PER_SESSION
    ) -> None:
        self._sleep = sleep
        self._most = most
        self._most_per_session = most_per_session
        self._channels: dict[str, _Channel] = {}
        self._open = 0
        self._closed = False

    @property
    def streams(self) -> int:
        return self._open

    def open(self, session_id: str, read: Read) -> Stream:
        """A new stream of a session; it sends nothing until `Stream.saw` or a change gives it a state.

        Raises:
            TooManyStreams: of this session, of this process, or it is shutting down.
        """
        if self._closed or self._open >= self._most:
            raise TooManyStreams
        channel = self._channels.get(session_id)
        if channel is None or channel.stopped:
            channel = self._channels[session_id] = _Channel(session_id, read, self._sleep)
        if len(channel.streams) >= self._most_per_session:
            raise TooManyStreams
        stream = Stream(channel, self._forget)
        channel.streams.add(stream)
        self._open += 1
        return stream

    def _forget(self, stream: Stream) -> None:
        channel = stream.channel
        if stream not in channel.streams:
            return
        channel.streams.remove(stream)
        self._open -= 1
        if not channel.streams:
            channel.stop()
            if self._channels.get(channel.session_id) is channel:
                del self._channels[channel.session_id]

    def start(self) -> None:
        """Take streams (again)."""
        self._closed = False

    def close(self) -> None:
        """End every stream and take no more. To be called before the server waits for its connections."""
        self._closed = True
        for channel in self._channels.values():
            channel.end()

    def changed(self, session: Session) -> None:
        channel = self._channels.get(session.id)
        if channel is not None:
            # A commit tells of the session as it was decided; stored, it has the next version.
            channel.saw(session.committed() if session.news else session)

    def loaded(self, session_id: str, source: str) -> None: ...

    def called_back(self, outcome: str, seconds: float) -> None: ...

    def asked(self, reason: Reason) -> None: ...

    def unmatched(self, session_id: str, payment_id: str) -> None: ...

    def swept(self, run: SweepRun) -> None: ...


class _Channel:
    """What all streams of one session share: its latest state and the ticker that reads it again."""

    def __init__(self, session_id: str, read: Read, sleep: Sleep) -> None:
        self.session_id = session_id
        self.streams: set[Stream] = set()
        self.text = ""
        self.final = False
        self._version = -1
        self._read = read
        self._sleep = sleep
        self._ticker = asyncio.create_task(self._tick(), name=f"live-{session_id}")
        self._ticker.add_done_callback(self._stopped)

    def saw(self, session: Session) -> None:
        """Take a state unless a newer one is known; versions only grow."""
        if session.version <= self._version:
            return
        self._version = session.version
        self.text = status_json(session)
        self.final = session.status is Status.PAID
        for stream in self.streams:
            stream.wake()

    def end(self) -> None:
        for stream in self.streams:
            stream.end()

    @property
    def stopped(self) -> bool:
        return self._ticker.done()

    def stop(self) -> None:
        self._ticker.cancel()

    async def _tick(self) -> None:
        # Ends with the last stream, each of which ends after STREAM_TICKS.
        while True:
            await self._sleep(TICK_SECONDS)
            # A database that is away is read again with the next tick.
            with contextlib.suppress(TulburError):
                self.saw(await self._read(self.session_id))
            for stream in self.streams:
                stream.ticked()

    def _stopped(self, ticker: asyncio.Task[None]) -> None:
        self.end()
        error = None if ticker.cancelled() else ticker.exception()
        if error is not None:
            context = {"message": "a live session's ticker failed", "exception": error, "task": ticker}
            ticker.get_loop().call_exception_handler(context)


class Stream:
    """One reader's view of a channel: it holds no queue, a slow reader only ever gets the latest state."""

    def __init__(self, channel: _Channel, forget: Callable[[Stream], None]) -> None:
        self.channel = channel
        self._forget = forget
        self._woken = asyncio.Event()
        self._sent = ""
        self._ticks = 0
        self._beat = False
        self._ended = False

    def saw(self, session: Session) -> None:
        """Tell what was read for this stream."""
        self.channel.saw(session)

    async def next(self) -> bytes | None:
        """The next piece to send, in the form of server-sent events; None at the end."""
        while True:
            self._woken.clear()
            if self._sent != self.channel.text:
                self._sent = self.channel.text
                return f"event: status\ndata: {self._sent}\n\n".encode()
            if self._ended or (self._sent and self.channel.final):
                return None
            if self._beat:
                self._beat = False
                return b": \n\n"
            await self._woken.wait()

    def close(self) -> None:
        """Free everything; safe to call twice."""
        self._ended = True
        self._forget(self)

    def ticked(self) -> None:
        self._ticks += 1
        self._beat = self._beat or self._ticks % HEARTBEAT_TICKS == 0
        self._ended = self._ended or self._ticks >= STREAM_TICKS
        self.wake()

    def end(self) -> None:
        self._ended = True
        self.wake()

    def wake(self) -> None:
        self._woken.set()
