"""A TCP proxy between a client and a server: it passes bytes on, until it is told to lose an answer, hang or refuse."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

How: TypeAlias = Literal["cut", "hang"]


@dataclass
class Loss:
    """Lose what answers a request that holds `marker`, or already the request."""

    marker: bytes
    executed: bool = True
    how: How = "cut"
    times: int = 1


@dataclass(eq=False)
class _Link:
    """One connection of a client, and ours to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    losing: How | None = None

    def close(self) -> None:
        self.client.close()
        self.server.close()


@dataclass
class Proxy:
    """Counts what it saw and did: a fault that never fired proves nothing."""

    host: str
    target: int
    port: int = 0
    hanging: bool = False
    refusing: bool = False
    watched: tuple[bytes, ...] = ()
    seen: Counter[bytes] = field(default_factory=Counter)
    lost: int = 0
    connections: int = 0
    _losses: list[Loss] = field(default_factory=list)
    _links: set[_Link] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def lose(self, marker: bytes, *, executed: bool = True, how: How = "cut", times: int = 1) -> None:
        """From now on, so many times, a request with `marker` in it gets no answer."""
        self._losses.append(Loss(marker, executed, how, times))

    def cut(self) -> None:
        """Close every connection."""
        for link in list(self._links):
            link.close()

    async def saw(self, marker: bytes, times: int = 1) -> None:
        """Wait until a watched marker was in so many requests."""
        assert marker in self.watched
        async with asyncio.timeout(20):
            while self.seen[marker] < times:
                self._news.clear()
                await self._news.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refusing:
            writer.close()
            return
        try:
            back, server = await asyncio.open_connection(self.host, self.target)
        except OSError:
            writer.close()
            return
        link = _Link(writer, server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(link, reader))
                group.create_task(self._answers(link, back))
        finally:
            self._links.discard(link)
            link.close()

    async def _requests(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await _some(reader):
            for marker in self.watched:
                self.seen[marker] += data.count(marker)
            self._news.set()
            loss = next((one for one in self._losses if one.times and one.marker in data), None)
            if loss is not None:
                loss.times -= 1
                self.lost += 1
                link.losing = loss.how
                if not loss.executed:
                    if loss.how == "cut":
                        break
                    continue
            if not self.hanging:
                link.server.write(data)
        link.close()

    async def _answers(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await _some(reader):
            if link.losing == "cut":
                break
            if link.losing is None and not self.hanging:
                link.client.write(data)
        link.close()


async def _some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 20)
    except OSError:
        return b""


@contextlib.asynccontextmanager
async def proxied(port: int, *watched: bytes, host: str = "127.0.0.1") -> AsyncIterator[Proxy]:
    """A proxy in front of a server's port."""
    proxy = Proxy(host, port, watched=watched)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()
