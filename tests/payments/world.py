"""A whole tulbur around a simulated QPay on a real socket, under a clock that only tests move."""

from __future__ import annotations

import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import uvicorn

from proving.host import KEYS
from proving.killing import Clock, Heard, request
from tulbur.cache import Backend, MemoryBackend, SessionCache
from tulbur.core.rules import Rules
from tulbur.core.session import SECOND, Session
from tulbur.links import Links
from tulbur.payments import Payments
from tulbur.payments.desk import Desk
from tulbur.ports import OldShop, Store
from tulbur.qpay.client import QPay
from tulbur.simulator.app import create_simulator
from tulbur.worker import Worker


@dataclass
class World:
    clock: Clock
    simulator: Any
    qpay: QPay
    store: Store
    cache: SessionCache
    payments: Payments
    worker: Worker
    heard: Heard
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def open(self, **changes: Any) -> Session:
        return await self.payments.open(request(**changes))

    async def stored(self, session_id: str) -> Session:
        found = await self.store.get(session_id)
        assert found is not None
        return found

    def invoices(self) -> list[Any]:
        """The simulator's invoices, oldest first."""
        return list(self.simulator.ledger.invoices.values())

    async def pay(self, session: Session, amount: str | None = None, attempt: int = -1, method: str = "P2P") -> str:
        """Pay an invoice at QPay, whose callback is lost; the payment's id."""
        return await self.pay_invoice(str(session.attempts[attempt].id), amount, method)

    async def pay_invoice(self, invoice_id: str, amount: str | None = None, method: str = "P2P") -> str:
        body: dict[str, Any] = {"callback": False, "method": method}
        if amount is not None:
            body["amount"] = amount
        return str((await self.control("POST", f"invoices/{invoice_id}/pay", body))["payment_id"])

    def with_rules(self, rules: Rules) -> None:
        """The shop's other mind about late money."""
        self.payments.desk = replace(self.payments.desk, rules=rules)
        self.worker = Worker(self.payments, owner="w")

    async def refund(self, payment_id: str) -> None:
        await self.control("POST", f"payments/{payment_id}/refund", {})

    async def faults(self, **knobs: Any) -> None:
        await self.control("PUT", "faults", knobs)

    async def requests(self, path: str) -> int:
        """How many requests the simulator saw whose path ends so."""
        items = (await self.control("GET", "requests"))["items"]
        return sum(item["path"].endswith(path) for item in items)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, f"{self.simulator.public_url}/_sim/{path}", json=body) as answer,
        ):
            assert answer.status < 300, await answer.text()
            return await answer.json()


@contextlib.asynccontextmanager
async def serving(app: Any, sock: socket.socket) -> AsyncIterator[None]:
    """Serve an ASGI application on a bound socket, in this loop, without the server's own main loop and its pauses."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[sock])
    try:
        yield
    finally:
        server.force_exit = True
        await server.shutdown(sockets=[sock])


@contextlib.asynccontextmanager
async def world(
    store: Store, clock: Clock, backend: Backend | None = None, old_shop: OldShop | None = None
) -> AsyncIterator[World]:
    # With its protocol named, asyncio switches off the pause that makes every answer wait 40 ms for an acknowledgement.
    with socket.socket(proto=socket.IPPROTO_TCP) as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        app = create_simulator(clock=lambda: clock.now / SECOND, public_url=url)
        async with serving(app, sock), _parts(clock, app.state.simulator, url, store, backend, old_shop) as made:
            yield made
        await app.state.simulator.aclose()


@contextlib.asynccontextmanager
async def _parts(
    clock: Clock, simulator: Any, url: str, store: Store, backend: Backend | None, old_shop: OldShop | None
) -> AsyncIterator[World]:
    heard = Heard()
    # A busy machine must not look like a slow cache.
    cache = SessionCache(backend or MemoryBackend(clock), KEYS, clock, timeout_seconds=10)
    qpay = QPay(url, "TEST_MERCHANT", "123456", "TEST_INVOICE", store=store, clock=clock)
    ids = itertools.count(1)
    desk = Desk(
        store=store,
        cache=cache,
        provider=qpay,
        links=Links("http://127.0.0.1:9", KEYS),
        sink=heard,
        clock=clock,
        new_id=lambda: f"{next(ids):032x}",
        old_shop=old_shop,
    )
    payments = Payments(desk)
    await store.start()
    await qpay.start()
    try:
        yield World(clock, simulator, qpay, store, cache, payments, Worker(payments, owner="w"), heard)
    finally:
        await payments.stop()
        await qpay.stop()
        await cache.stop()
        await store.stop()
