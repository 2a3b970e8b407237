"""One simulator in its own process, with a clock that only moves when told."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import uvicorn
from aiohttp import web
from starlette.applications import Starlette

from tulbur.simulator import Simulator, create_simulator

START = 1_790_000_000.0
BASE = "http://simulator.test"


class AnnouncedServer(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def world() -> SimpleNamespace:
    """`now` in epoch seconds, and every wait that was asked for."""
    return SimpleNamespace(now=START, slept=[])


@pytest.fixture
def app(world: SimpleNamespace) -> Starlette:
    async def sleep(seconds: float) -> None:
        world.slept.append(seconds)
        world.now += seconds

    return create_simulator(clock=lambda: world.now, rng=random.Random(1), sleep=sleep)


@pytest.fixture
def simulator(app: Starlette) -> Simulator:
    found: Simulator = app.state.simulator
    return found


@pytest.fixture
async def anonymous(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as client:
        yield client


@pytest.fixture
async def client(anonymous: httpx2.AsyncClient, app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """Logged in as TEST_MERCHANT."""
    token = (await anonymous.post("/v2/auth/token", auth=("TEST_MERCHANT", "123456"))).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE, headers=headers) as client:
        yield client


@pytest.fixture
def form() -> Callable[..., dict[str, Any]]:
    """A simple invoice as QPay's workbook shows it, with changes; None takes a field out."""

    def build(**changes: object) -> dict[str, Any]:
        body = {
            "invoice_code": "TEST_INVOICE",
            "sender_invoice_no": "1234567",
            "invoice_receiver_code": "terminal",
            "invoice_description": "test",
            "amount": 100,
            "callback_url": "http://127.0.0.1:9/webhook",
            **changes,
        }
        return {key: value for key, value in body.items() if value is not None}

    return build


@pytest.fixture
def invoice(
    client: httpx2.AsyncClient, form: Callable[..., dict[str, Any]]
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Make an invoice and return QPay's answer."""

    async def make(**changes: object) -> dict[str, Any]:
        response = await client.post("/v2/invoice", json=form(**changes))
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    return make


@pytest.fixture
def pay(client: httpx2.AsyncClient) -> Callable[..., Awaitable[str]]:
    """Pay an invoice without a callback and return the payment's id."""

    async def send(invoice_id: str, **wish: object) -> str:
        response = await client.post(f"/_sim/invoices/{invoice_id}/pay", json={"callback": False, **wish})
        assert response.status_code == 200, response.text
        assert response.json()["callback"] is None
        return str(response.json()["payment_id"])

    return send


@pytest.fixture
def check(client: httpx2.AsyncClient) -> Callable[[str], Awaitable[dict[str, Any]]]:
    async def ask(invoice_id: str) -> dict[str, Any]:
        response = await client.post("/v2/payment/check", json={"object_type": "INVOICE", "object_id": invoice_id})
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    return ask


@pytest.fixture
async def merchant() -> AsyncIterator[SimpleNamespace]:
    """A merchant's server on a real socket: `url`, the requests `seen`, and the `answer` it gives.

    `before`, when set, is awaited before it answers.
    """
    shop = SimpleNamespace(seen=[], before=None, answer=lambda: web.Response(text="SUCCESS"))

    async def handle(request: web.Request) -> web.Response:
        shop.seen.append((request.method, request.raw_path, await request.text()))
        if shop.before:
            await shop.before()
        answer: web.Response = shop.answer()
        return answer

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    shop.url = f"http://{host}:{port}"
    yield shop
    await runner.cleanup()


@pytest.fixture
def served() -> Callable[[Starlette], AbstractAsyncContextManager[str]]:
    """Serve an application by uvicorn in the loop that is already running; gives its base URL."""

    @asynccontextmanager
    async def serve(application: Starlette) -> AsyncIterator[str]:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(application, ws="none", log_config=None)
        server = AnnouncedServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await server.ready.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
            listener.close()

    return serve


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
