"""A TCP proxy of our own between a store and its server: it loses answers or requests, and goes silent, when told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

CANCEL_REQUEST = bytes.fromhex("0000001004d2162e")
"""What opens a PostgreSQL connection that asks for another one's statement to be cancelled."""


class Proxy:
    """Forwards until it is told otherwise; each fault happens once, and is counted."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (str(parts.hostname), parts.port or 0)
        self._drop_request = False
        self._drop_answer = False
        self._silent: set[_Link] = set()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.fired = 0
        self.cancel_requests = 0

    def url(self, target: str) -> str:
        """The same URL, through this proxy."""
        parts = urlsplit(target)
        return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self._port}").geturl()

    def lose_next(self, *, executed: bool) -> None:
        """Close the connection instead of passing on the next answer, or even the next request."""
        self._drop_answer, self._drop_request = executed, not executed

    def go_silent(self) -> None:
        """Pass on nothing more over the connections there are, and close none: half-open."""
        self._silent |= self._links

    def reset(self) -> None:
        """Cut every connection there is."""
        for link in list(self._links):
            link.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.reset()
            await asyncio.gather(*self._tasks)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        passes: Callable[[bytes], bool],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                if link in self._silent:
                    continue
                if not passes(data):
                    self.fired += 1
                    break
                target.write(data)
                await target.drain()
        if link not in self._silent:
            link.close()

    def _on_request(self, data: bytes) -> bool:
        self.cancel_requests += data.startswith(CANCEL_REQUEST)
        dropped, self._drop_request = self._drop_request, False
        return not dropped

    def _on_answer(self, data: bytes) -> bool:
        del data
        dropped, self._drop_answer = self._drop_answer, False
        return not dropped


class _Link:
    """One connection on each side."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
