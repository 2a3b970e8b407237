"""The client and tulbur's simulator of QPay, with a real store between two processes of one shop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import uvicorn
from tests.qpay.conftest import MakeClient
from tests.qpay.fakes import Clock

from tulbur.core.session import SECOND
from tulbur.errors import ProviderRefused, ProviderUnavailable
from tulbur.ports import Cancelling, InvoiceRequest
from tulbur.simulator import Simulator, create_simulator
from tulbur.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

PASSWORD = "123456"
REQUEST = InvoiceRequest(
    sender_invoice_no="TB1",
    receiver_code="terminal",
    description="x",
    amount=5_000_000,
    callback_url="http://127.0.0.1:9",
)
SHAPES: list[dict[str, Any]] = [
    {},
    {"shape": {"unknown_fields": True}},
    {"shape": {"numbers_as_strings": True}},
    {"invoice": {"empty_qr_image": True}},
]


class Ready(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@dataclass
class Control:
    """The simulator and its control plane."""

    url: str
    simulator: Simulator

    async def put_faults(self, faults: dict[str, Any]) -> None:
        await self._send("PUT", "/_sim/faults", faults)

    async def pay(self, invoice_id: str, **money: Any) -> str:
        paid = await self._send("POST", f"/_sim/invoices/{invoice_id}/pay", {"callback": False, **money})
        return str(paid["payment_id"])

    async def refund(self, payment_id: str) -> None:
        await self._send("POST", f"/_sim/payments/{payment_id}/refund", {})

    async def count(self, path: str) -> int:
        items = (await self._send("GET", "/_sim/requests", None))["items"]
        return sum(item["path"] == path for item in items)

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, json=body, raise_for_status=True) as answer,
        ):
            return await answer.json() if answer.content_type == "application/json" else None


@pytest.fixture
async def sim(clock: Clock) -> AsyncIterator[Control]:
    app = create_simulator(clock=lambda: clock() / SECOND, sleep=clock.sleep)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = Ready(uvicorn.Config(app, lifespan="on", log_config=None, ws="none"))
        task = asyncio.create_task(server.serve([listening]))
        await asyncio.wait([task, asyncio.create_task(server.ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        yield Control(f"http://127.0.0.1:{listening.getsockname()[1]}", app.state.simulator)
        server.should_exit = True
        await task


@pytest.fixture
async def shop(sim: Control, make_client: MakeClient, clock: Clock) -> Callable[[], Any]:
    store = MemoryStore(clock)

    async def process() -> Any:
        return await make_client(sim.url, password=PASSWORD, store=store)

    return process


@pytest.mark.parametrize("faults", SHAPES)
@pytest.mark.parametrize("method", ["P2P", "CARD"])
async def test_from_invoice_to_payment(
    sim: Control, shop: Callable[[], Any], faults: dict[str, Any], method: str
) -> None:
    client = await shop()
    await sim.put_faults(faults)
    made = await client.create_invoice(REQUEST)
    assert made.qr_text
    assert len(made.links) > 20
    assert bool(made.qr_image) != ("invoice" in faults)
    assert await client.check(made.id) == await client.check(made.id)
    assert (await client.check(made.id)).payments == ()
    payment_id = await sim.pay(made.id, method=method)
    answer = await client.check(made.id)
    (seen,) = answer.payments
    assert answer.complete
    assert (seen.id, seen.amount, seen.currency, seen.status, seen.method) == (
        payment_id,
        REQUEST.amount,
        "MNT",
        "PAID",
        method,
    )
    found = await client.get_payment(payment_id)
    assert found is not None
    assert (found.invoice_id, found.amount, found.method) == (made.id, REQUEST.amount, method)
    assert found.paid_at is not None
    listed = await client.list_payments(found.paid_at - 60 * SECOND, found.paid_at + 60 * SECOND)
    assert [p.id for p in listed.payments] == [payment_id]
    invoice = await client.get_invoice(made.id)
    assert invoice is not None
    assert (invoice.sender_invoice_no, invoice.amount) == ("TB1", REQUEST.amount)
    assert await client.cancel_invoice(made.id) is Cancelling.PAID
    await sim.refund(payment_id)
    assert [p.status for p in (await client.check(made.id)).payments] == ["REFUNDED"]


async def test_cancelling(sim: Control, shop: Callable[[], Any]) -> None:
    client = await shop()
    made = await client.create_invoice(REQUEST)
    assert await client.cancel_invoice(made.id) is Cancelling.CANCELLED
    assert await client.cancel_invoice(made.id) is Cancelling.ALREADY
    assert await client.cancel_invoice("00000000-0000-4000-8000-000000000000") is Cancelling.NOT_FOUND
    assert await client.get_invoice("00000000-0000-4000-8000-000000000000") is None
    assert await client.get_payment("000000000000000") is None


async def test_an_answer_lost_after_the_invoice_was_made(sim: Control, shop: Callable[[], Any]) -> None:
    client = await shop()
    await client.login()
    await sim.put_faults({"reply": {"invoice_create": {"lose_after_commit": True, "times": 1}}})
    with pytest.raises(ProviderUnavailable):
        await client.create_invoice(REQUEST)
    assert await sim.count("/v2/invoice") == 1
    assert len(sim.simulator.ledger.invoices) == 1


async def test_two_processes_and_a_thief(
    sim: Control, shop: Callable[[], Any], make_client: MakeClient, clock: Clock
) -> None:
    processes = [await shop(), await shop()]
    made = await processes[0].create_invoice(REQUEST)
    await asyncio.gather(*(processes[n % 2].check(made.id) for n in range(20)))
    assert await sim.count("/v2/auth/token") == 1
    thief = await make_client(sim.url, password=PASSWORD, store=MemoryStore(clock))
    await thief.login()
    await asyncio.gather(*(processes[n % 2].check(made.id) for n in range(20)))
    assert await sim.count("/v2/auth/token") == 3


async def test_a_token_ends_before_it_should(sim: Control, shop: Callable[[], Any], clock: Clock) -> None:
    client = await shop()
    await sim.put_faults({"token": {"lifetime_seconds": 1}})
    made = await client.create_invoice(REQUEST)
    clock.advance(5)
    assert (await client.check(made.id)).complete
    assert await sim.count("/v2/auth/token") == 2


async def test_wrong_credentials(sim: Control, make_client: MakeClient, clock: Clock) -> None:
    client = await make_client(sim.url, password="wrong", store=MemoryStore(clock))
    with pytest.raises(ProviderRefused, match="QPAY_PASSWORD"):
        await client.login()
