"""Strangers on raw sockets: whatever they send, or do not send, memory and connections have an end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from tulbur.commands import demo, serving
from tulbur.settings import IsolatedSettings
from tulbur.web.connection import MOST_AHEAD, BoundedHttp

pytestmark = pytest.mark.anyio

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
MUCH = 2_000_000


class Impatient(BoundedHttp):
    request_seconds = 0.3
    taking_seconds = 0.3


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers `/a` at once, `/read` after the body, `/big` with more than any buffer holds, `/slow` a little later."""
    assert scope["type"] == "http"
    body = b"x" * MUCH * 10 if scope["path"] == "/big" else b"ok"
    if scope["path"] == "/read":
        while (await receive()).get("more_body"):
            pass
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(0, len(body), 65536):
        piece = body[start : start + 65536]
        await send({"type": "http.response.body", "body": piece, "more_body": start + 65536 < len(body)})


@contextlib.asynccontextmanager
async def listening(http: type[BoundedHttp]) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        config = uvicorn.Config(answers, http=http, log_config=None, lifespan="off", timeout_keep_alive=60)
        async with demo._serving(demo.QuietServer(config), sock):
            yield int(sock.getsockname()[1])


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with listening(BoundedHttp) as port:
        yield port


@pytest.fixture
async def impatient_port() -> AsyncIterator[int]:
    async with listening(Impatient) as port:
        yield port


async def exchange(port: int, data: bytes, *, seconds: float = 5) -> bytes:
    """Send, and read until the server closes; the end of its patience must come within `seconds`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(data)
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):
                return await reader.read(-1)
            return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def poured(port: int, start: bytes, piece: bytes) -> int:
    """Bytes the server takes of something that never ends, at most `MUCH` of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = len(start)
    try:
        writer.write(start)
        while taken < MUCH and not reader.at_eof():
            writer.write(piece)
            taken += len(piece)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(4096), 0.005)
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return taken


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (GET, b"A: " + b"a" * 8000 + b"\r\n"),
        (GET + b"A: ", b"a" * 8000),
        (b"GET /", b"a" * 8000),
        (b"", b"\r\n" * 4000),
        (CHUNKED + b"0\r\n", b"A: " + b"a" * 8000 + b"\r\n"),
        (CHUNKED + b"5;", b"a" * 8000),
    ],
    ids=["headers", "one header", "address", "empty lines", "trailers", "chunk extension"],
)
async def test_what_never_ends_is_cut_off(port: int, start: bytes, piece: bytes) -> None:
    assert await poured(port, start, piece) < MUCH


async def test_too_long_a_head_is_told(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(GET)
        await _taken_in(port)
        writer.write(b"A: " + b"a" * 70_000)
        answer = await asyncio.wait_for(reader.read(-1), 5)
    finally:
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert _problem(answer)["code"] == "too_large"


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["TLS", "a chunk of negative size", "two lengths"],
)
async def test_what_is_no_request_is_told_as_a_problem(port: int, said: bytes) -> None:
    answer = await exchange(port, said)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert _problem(answer)["code"] == "bad_request"
    assert b"content-type: application/problem+json\r\n" in answer


async def test_a_few_requests_sent_ahead_are_all_answered(port: int) -> None:
    ahead = (GET + b"\r\n") * MOST_AHEAD + GET + b"Connection: close\r\n\r\n"
    assert (await exchange(port, ahead)).count(b"HTTP/1.1 200") == MOST_AHEAD + 1


async def test_no_more_is_let_in_while_requests_wait(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    try:
        writer.write(slow * (MOST_AHEAD + 2))
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read(-1) == b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        GET,
        b"\r\n",
        b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab",
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab",
    ],
    ids=["nothing", "half a head", "an empty line", "half a body", "half a body nobody reads"],
)
async def test_a_client_that_stops_half_way_is_left(impatient_port: int, said: bytes) -> None:
    await exchange(impatient_port, said, seconds=3)


async def test_a_body_that_ends_after_its_answer_holds_nothing(impatient_port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient_port)
    try:
        writer.write(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        async with asyncio.timeout(3):
            await reader.readuntil(b"ok")
            writer.write(b"cd")
            assert await reader.read(-1) == b""
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_slow_answer_is_not_cut_short(impatient_port: int) -> None:
    answer = await exchange(impatient_port, b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"ok")


async def test_a_client_that_takes_nothing_is_left(impatient_port: int) -> None:
    with socket.create_connection(("127.0.0.1", impatient_port)) as sock:
        sock.setblocking(False)  # noqa: FBT003 - its only argument
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await _until_nobody_listens(sock)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 3):
                taken += len(piece)
        assert taken < MUCH * 10


async def _taken_in(port: int) -> None:
    """A whole exchange on another connection: what was sent before it has been read."""
    await exchange(port, GET + b"Connection: close\r\n\r\n")


async def _until_nobody_listens(sock: socket.socket) -> None:
    """Until the server has given the connection up: what is sent then is refused."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(5):
            while True:
                await loop.sock_sendall(sock, b"\r\n")
                await asyncio.sleep(0.05)


def _demo_config() -> uvicorn.Config:
    return demo._config(answers)


def _serve_config() -> uvicorn.Config:
    return serving._config(IsolatedSettings(), ("127.0.0.1", 8080), processes=1, worker=False)


@pytest.mark.parametrize("config", [_demo_config, _serve_config], ids=["demo", "serve"])
def test_whatever_serves_has_these_bounds(config: Callable[[], uvicorn.Config]) -> None:
    assert config().http is BoundedHttp


def _problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length
    assert int(length[1]) == len(body)
    found: dict[str, Any] = json.loads(body)
    return found
