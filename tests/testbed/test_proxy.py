"""The proxy between a client and its server does what it is told, to bytes on real sockets, and tells of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from testbed.proxy import Proxy, Strike

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Line:
    """A connection through the proxy to a server that answers each line with the same line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, text: bytes = b"hello") -> bytes:
        """The answer; what came of it when the connection ended."""
        answer = b""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                self._writer.write(text + b"\n")
                while not answer.endswith(b"\n") and (more := await self._reader.read(100)):
                    answer += more
        return answer


class Way:
    def __init__(self, proxy: Proxy, port: int, struck: list[Strike], heard: list[bytes]) -> None:
        self.proxy, self.struck, self.heard = proxy, struck, heard
        self._port = port

    @contextlib.asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            yield Line(reader, writer)
        finally:
            writer.transport.abort()


@pytest.fixture
async def way() -> AsyncIterator[Way]:
    heard: list[bytes] = []
    struck: list[Strike] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                heard.append(line.strip())
                writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with Proxy(target, on_strike=struck.append).running() as proxy:
        yield Way(proxy, urlsplit(proxy.url(target)).port or 0, struck, heard)
    server.close()
    await server.wait_closed()


async def test_it_forwards_until_it_is_told_otherwise(way: Way) -> None:
    async with way.line() as line:
        assert [await line.ask(), await line.ask(b"again")] == [b"hello\n", b"again\n"]
    assert not way.struck


async def test_it_refuses_until_it_behaves(way: Way) -> None:
    way.proxy.refusing = True
    async with way.line() as line:
        assert await line.ask() == b""
    way.proxy.behave()
    async with way.line() as line:
        assert await line.ask() == b"hello\n"
    assert (way.struck, way.heard) == ([Strike.REFUSED], [b"hello"])


async def test_it_cuts_one_answer_in_half(way: Way) -> None:
    way.proxy.cut_next_answer()
    async with way.line() as line:
        assert await line.ask() in (b"hel", b""), "a reset may overtake what was sent before it"
    async with way.line() as line:
        assert await line.ask() == b"hello\n"
    assert way.struck == [Strike.RESET]


async def test_it_loses_the_answer_to_one_write_that_was_done(way: Way) -> None:
    way.proxy.lose_answer_to(b"COMMIT", b"SET")
    async with way.line() as line:
        assert await line.ask(b"SELECT") == b"SELECT\n"
        assert await line.ask(b"COMMIT") == b""
    async with way.line() as line:
        assert await line.ask(b"COMMIT") == b"COMMIT\n"
    assert (way.struck, way.heard) == ([Strike.LOST], [b"SELECT", b"COMMIT", b"COMMIT"])


async def test_it_loses_one_answer_by_what_it_says(way: Way) -> None:
    way.proxy.lose_answer_with(b"DONE")
    async with way.line() as line:
        assert await line.ask(b"SELECT") == b"SELECT\n"
        assert await line.ask(b"DONE") == b""
    async with way.line() as line:
        assert await line.ask(b"DONE") == b"DONE\n"
    assert (way.struck, way.heard) == ([Strike.LOST], [b"SELECT", b"DONE", b"DONE"])


async def test_it_is_late(way: Way) -> None:
    way.proxy.delay_seconds = 0.05
    loop = asyncio.get_running_loop()
    async with way.line() as line:
        began = loop.time()
        assert await line.ask() == b"hello\n"
        assert loop.time() - began >= way.proxy.delay_seconds
    assert way.struck == [Strike.SLOW]


async def test_connections_there_are_go_silent_and_new_ones_do_not(way: Way) -> None:
    async with way.line() as old:
        assert await old.ask() == b"hello\n"
        way.proxy.go_silent()
        waiting = asyncio.create_task(old.ask(b"lost"))
        while not way.struck:
            await asyncio.sleep(0.01)
        async with way.line() as new:
            assert await new.ask(b"new") == b"new\n"
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (way.struck, way.heard) == ([Strike.SILENT], [b"hello", b"new"])


async def test_it_is_aimed_elsewhere(way: Way) -> None:
    way.proxy.aim("tcp://127.0.0.1:1")
    async with way.line() as line:
        assert await line.ask() == b""
    assert not way.heard
