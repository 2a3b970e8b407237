"""The real parts of a figure: `tulbur serve` as processes of its own, and a QPay whose socket can be taken away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import uvicorn

from proving.figures.wire import Line, Unanswered, request
from testbed.engine import free_port
from tulbur.links import Links
from tulbur.simulator.app import create_simulator
from tulbur.stores.choosing import migrations

START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 30.0

MOST_OPENINGS: Final = 20
"""Times a shop sends its cart."""

API_KEY: Final = "figure-api-key-canary-0123456789abcdef"
SECRET_KEY: Final = "figure-secret-canary-of-forty-characters"  # noqa: S105 - of a service that lives for one run
QPAY_PASSWORD: Final = "123456"  # noqa: S105 - the simulator's

SHOPS: Final = ("a", "b")
"""Each cart has an item of both, so that an order set is two orders."""

CART: Final[Mapping[str, Any]] = {
    "user_id": "u1",
    "amount": "1000",
    "items": [{"shop_id": shop, "product_id": "p", "quantity": 1, "unit_price": "500"} for shop in SHOPS],
}


class QPay(Protocol):
    """A simulated QPay, wherever it runs."""

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...


class Bank:
    """A simulated QPay on a port of this machine. While it is away nobody listens there; its books stay."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._app = create_simulator(public_url=self.url)
        self._server: uvicorn.Server | None = None
        self._socket: socket.socket | None = None

    async def listen(self) -> None:
        # With its protocol named, asyncio switches off the pause that makes every answer wait for an acknowledgement.
        sock = socket.socket(proto=socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self.port))
        config = uvicorn.Config(self._app, log_config=None, access_log=False, lifespan="off")
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[sock])
        self._server, self._socket = server, sock

    async def leave(self) -> None:
        """Connections end, and new ones are refused."""
        server, self._server = self._server, None
        sock, self._socket = self._socket, None
        if server is not None and sock is not None:
            server.force_exit = True
            await server.shutdown(sockets=[sock])
            sock.close()

    async def close(self) -> None:
        await self.leave()
        await self._app.state.simulator.aclose()


@dataclass
class Service:
    """One `tulbur serve`."""

    port: int
    log: Path
    process: asyncio.subprocess.Process

    async def ready(self, path: str = "/readyz") -> None:
        """Wait until it answers with a 200 there.

        Raises:
            AssertionError: it ended, or does not answer in time.
        """
        async with asyncio.timeout(START_SECONDS):
            while True:
                assert self.process.returncode is None, self.log.read_text(errors="replace")
                with contextlib.suppress(Unanswered):
                    line = await Line.to(self.port)
                    try:
                        if (await line.ask(request("GET", path))).status == 200:
                            return
                    finally:
                        await line.close()
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()

    @property
    def resident_bytes(self) -> int:
        """Memory that it has now (Linux)."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextlib.asynccontextmanager
async def serving(
    folder: Path, qpay: QPay, settings: Sequence[Mapping[str, str]], *options: str
) -> AsyncIterator[list[Service]]:
    """Run a process of tulbur for each of these settings until the block ends; their logs are in `folder`."""
    services: list[Service] = []
    try:
        for each in settings:
            service = await _started(folder, qpay, each, options)
            services.append(service)
        for service in services:
            await service.ready()
        yield services
    finally:
        for service in services:
            await service.stop()


async def _started(folder: Path, qpay: QPay, settings: Mapping[str, str], options: Sequence[str]) -> Service:
    port = free_port()
    log = folder / f"serve-{port}.log"
    named = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "QPAY_BASE_URL": qpay.url,
        "QPAY_USERNAME": "TEST_FIGURES",
        "QPAY_PASSWORD": QPAY_PASSWORD,
        "QPAY_INVOICE_CODE": "TEST_INVOICE",
        "TULBUR_SECRET_KEYS": SECRET_KEY,
        "TULBUR_API_KEYS": f"shop:admin+read+refund+write:{sha256(API_KEY.encode()).hexdigest()}",
    }
    command = (sys.executable, "-m", "tulbur.cli", "serve", *options)
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, env={**named, **settings}, cwd=folder, stdout=out, stderr=out
        )
    return Service(port, log, process)


@contextlib.asynccontextmanager
async def bank() -> AsyncIterator[Bank]:
    made = Bank()
    await made.listen()
    try:
        yield made
    finally:
        await made.close()


def migrated(url: str) -> str:
    """The same URL, of a database that has tulbur's tables now."""
    migrations(url).up(url)
    return url


def callback_path(session_id: str) -> str:
    """Where QPay calls back about a session, on every process that has the same keys."""
    return urlsplit(Links("http://x", [SECRET_KEY]).callback_url(session_id)).path


def pay_path(session_id: str) -> str:
    return urlsplit(Links("http://x", [SECRET_KEY]).checkout_url(session_id)).path


@dataclass(frozen=True, slots=True)
class Paid:
    """A session whose money QPay has; nobody was told."""

    session_id: str
    payment_id: str


class Shop:
    """Opens sessions at some processes and pays their invoices at the bank, so many at once."""

    def __init__(self, services: Sequence[Service], qpay: QPay, at_once: int = 8) -> None:
        self._services, self._qpay, self._at_once = services, qpay, at_once

    async def opened(self, count: int, **changes: object) -> list[dict[str, Any]]:
        """Sessions with an invoice each."""
        bodies = [{**CART, **changes}] * count
        return await self._spread(bodies, [service.port for service in self._services], self._open)

    async def pay(self, sessions: Sequence[Mapping[str, Any]]) -> list[Paid]:
        return await self._spread(sessions, [self._qpay.port], self._pay)

    async def _open(self, line: Line, body: Mapping[str, Any]) -> dict[str, Any]:
        """As shops do: with one key, again until there is an invoice."""
        data = request("POST", "/v1/sessions", body, key=API_KEY, idempotency_key=secrets.token_hex(8))
        for _ in range(MOST_OPENINGS):
            answer = await line.ask(data)
            if answer.status == 201 and answer.json()["invoice"]:
                session: dict[str, Any] = answer.json()
                return session
            assert answer.status in (201, 409, 502, 503), answer.body
            await asyncio.sleep(0.5)
        raise AssertionError(f"no session in {MOST_OPENINGS} tries: {answer.body!r}")

    async def _pay(self, line: Line, session: Mapping[str, Any]) -> Paid:
        path = f"/_sim/invoices/{session['invoice']['id']}/pay"
        answer = await line.ask(request("POST", path, {"callback": False}))
        assert answer.status == 200, answer.body
        return Paid(session["id"], str(answer.json()["payment_id"]))

    async def _spread(self, bodies: Sequence[Any], ports: Sequence[int], act: Any) -> list[Any]:  # noqa: ANN401
        made: list[Any] = [None] * len(bodies)
        places = iter(range(len(bodies)))

        async def one(port: int) -> None:
            line = await Line.to(port)
            try:
                for place in places:
                    made[place] = await act(line, bodies[place])
            finally:
                await line.close()

        await asyncio.gather(*(one(ports[number % len(ports)]) for number in range(self._at_once)))
        return made
