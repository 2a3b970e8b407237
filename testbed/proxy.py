"""A TCP proxy of our own between a client and its server: it loses, cuts, delays or refuses what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from urllib.parse import urlsplit

CANCEL_REQUEST = bytes.fromhex("0000001004d2162e")
"""What opens a PostgreSQL connection that asks for another one's statement to be cancelled."""


class Strike(StrEnum):
    """What it did to somebody."""

    LOST = "lost"
    RESET = "reset"
    REFUSED = "refused"
    SLOW = "slow"
    SILENT = "silent"


class Proxy:
    """Forwards until it is told otherwise; what it is told to lose or cut happens once. `on_strike` hears of each."""

    def __init__(self, target: str, *, on_strike: Callable[[Strike], None] | None = None) -> None:
        self.aim(target)
        self._on_strike = on_strike
        self._drop_request = False
        self._drop_answer = False
        self._cut_answer = False
        self._writes: tuple[bytes, ...] = ()
        self._answers: tuple[bytes, ...] = ()
        self._silent: set[_Link] = set()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.refusing = False
        """Whether new connections are closed at once."""
        self.delay_seconds = 0.0
        """How much later each part of an answer is passed on."""
        self.fired = 0
        self.cancel_requests = 0

    def aim(self, target: str) -> None:
        """Where connections go from now on."""
        parts = urlsplit(target)
        self._target = (str(parts.hostname), parts.port or 0)

    def url(self, target: str) -> str:
        """The same URL, through this proxy."""
        parts = urlsplit(target)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self._port}").geturl()

    def lose_next(self, *, executed: bool) -> None:
        """Close the connection instead of passing on the next answer, or even the next request."""
        self._drop_answer, self._drop_request = executed, not executed

    def lose_answer_to(self, *writes: bytes) -> None:
        """Pass on the next request that holds one of these, and close the connection instead of its answer."""
        self._writes = writes

    def lose_answer_with(self, *answers: bytes) -> None:
        """Close the connection instead of passing on the next answer that holds one of these."""
        self._answers = answers

    def cut_next_answer(self) -> None:
        """Pass on half of the next answer, then reset the connection."""
        self._cut_answer = True

    def go_silent(self, seconds: float | None = None) -> None:
        """Pass on nothing more over the connections there are, and close none: half-open.

        After so many seconds both ends hear of it, as from TCP's own keepalives, which a proxy would answer.
        """
        links = self._links - self._silent
        self._silent |= links
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, _close, links)

    def reset(self) -> None:
        """Cut every connection there is."""
        for link in list(self._links):
            link.close()

    def behave(self) -> None:
        """From now on nothing goes wrong; connections that are half-open stay so."""
        self.refusing, self.delay_seconds, self._writes, self._answers = False, 0.0, (), ()
        self._drop_request = self._drop_answer = self._cut_answer = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.behave()
            self.reset()
            await asyncio.gather(*self._tasks)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            self._struck(Strike.REFUSED)
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, back)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._forward(link, reader, back, self._on_request), self._forward(link, there, writer, self._on_answer)
            )
        finally:
            link.close()
            self._links.discard(link)
            self._silent.discard(link)

    async def _forward(
        self,
        link: _Link,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        kept: Callable[[_Link, bytes], int],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if link in self._silent:
                    self._struck(Strike.SILENT)
                    continue
                length = kept(link, data)
                if self.delay_seconds and kept == self._on_answer:
                    self._struck(Strike.SLOW)
                    await asyncio.sleep(self.delay_seconds)
                target.write(data[:length])
                if length < len(data):
                    self.fired += 1
                    break
                await target.drain()
        if link not in self._silent:
            link.close()

    def _on_request(self, link: _Link, data: bytes) -> int:
        """How much of it is passed on; less than all is the end of the connection."""
        self.cancel_requests += data.startswith(CANCEL_REQUEST)
        if any(write in data for write in self._writes):
            self._writes, link.loses_answer = (), True
        dropped, self._drop_request = self._drop_request, False
        return 0 if dropped else len(data)

    def _on_answer(self, link: _Link, data: bytes) -> int:
        named = any(answer in data for answer in self._answers)
        dropped, self._drop_answer = self._drop_answer or link.loses_answer or named, False
        if dropped:
            self._answers = () if named else self._answers
            self._struck(Strike.LOST)
            return 0
        cut, self._cut_answer = self._cut_answer, False
        if cut:
            self._struck(Strike.RESET)
            return len(data) // 2
        return len(data)

    def _struck(self, strike: Strike) -> None:
        if self._on_strike is not None:
            self._on_strike(strike)


def _close(links: set[_Link]) -> None:
    for link in links:
        link.close()


class _Link:
    """One connection on each side."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.loses_answer = False

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
