"""What can be made to go wrong with QPay's replies."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx2
import pytest
from starlette.applications import Starlette

from tulbur.simulator import Faults, Simulator, create_simulator
from tulbur.simulator.app import OPERATIONS as ROUTES
from tulbur.simulator.faults import OPERATIONS

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Form = Callable[..., Body]
Make = Callable[..., Awaitable[Body]]
Pay = Callable[..., Awaitable[str]]
Serve = Callable[[Starlette], AbstractAsyncContextManager[str]]


async def spoil(client: httpx2.AsyncClient, **faults: object) -> None:
    response = await client.put("/_sim/faults", json=faults)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_operation_can_be_spoiled(client: httpx2.AsyncClient, operation: str) -> None:
    await spoil(client, reply={operation: {"status": 503}})
    for method, path, name, _ in ROUTES:
        response = await client.request(method, f"/v2/{path.format(id='none')}", json={})
        assert (response.status_code == 503) == (name == operation)
    counts = (await client.get("/_sim/requests")).json()["counts"]
    assert counts[operation] >= 1


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "text"),
    [
        ({"status": 500}, 500, "application/json", '{"error":"SYSTEM_BUSY","message":"SYSTEM_BUSY"}'),
        ({"status": 401}, 401, "application/json", '{"error":"NO_CREDENTIALS","message":"NO_CREDENTIALS"}'),
        ({"status": 500, "body": '{"error":"SYSTEM_BUSY"}'}, 500, "application/json", '{"error":"SYSTEM_BUSY"}'),
        ({"status": 400, "body": {"error": "X"}}, 400, "application/json", '{"error":"X"}'),
        ({"body": '{"count":1,"rows":['}, 200, "application/json", '{"count":1,"rows":['),
        ({"body": ""}, 200, "text/html", ""),
        ({"status": 302, "body": "moved"}, 302, "text/html", "moved"),
    ],
)
async def test_the_answer_in_place_of_qpays(
    client: httpx2.AsyncClient, fault: Body, status: int, content_type: str, text: str
) -> None:
    await spoil(client, reply={"payment_check": fault})
    response = await client.post("/v2/payment/check", json={})
    assert (response.status_code, response.text) == (status, text)
    assert response.headers["content-type"].startswith(content_type)


async def test_a_bad_gateway_is_a_page_of_the_proxys(client: httpx2.AsyncClient) -> None:
    await spoil(client, reply={"invoice_get": {"status": 502}})
    response = await client.get("/v2/invoice/none")
    assert (response.status_code, response.headers["content-type"]) == (502, "text/html")
    assert "<center><h1>502 Bad Gateway</h1></center>" in response.text


async def test_a_refused_invoice_was_not_made_and_faults_run_out(
    client: httpx2.AsyncClient, invoice: Make, form: Form, simulator: Simulator
) -> None:
    await spoil(client, reply={"invoice_create": {"status": 500, "times": 2}})
    for _ in range(2):
        assert (await client.post("/v2/invoice", json=form())).status_code == 500
    assert simulator.ledger.invoices == {}
    told = (await client.get("/_sim/faults")).json()
    assert told["replies_left"] == {"invoice_create": 0}
    assert told["fired"] == {"reply.invoice_create": 2}
    assert await invoice()


async def test_without_times_a_fault_lasts_until_cleared(client: httpx2.AsyncClient) -> None:
    await spoil(client, reply={"token": {"status": 500}})
    for _ in range(5):
        assert (await client.post("/v2/auth/token")).status_code == 500
    await spoil(client)
    assert (await client.post("/v2/auth/token")).status_code == 401


async def test_a_slow_reply_comes_after_the_effect(
    client: httpx2.AsyncClient, invoice: Make, world: SimpleNamespace
) -> None:
    await spoil(client, reply={"invoice_create": {"delay_seconds": 12.5}})
    assert (await invoice())["invoice_id"]
    assert world.slept == [12.5]


async def test_a_lost_answer_leaves_its_effect(
    client: httpx2.AsyncClient, form: Form, simulator: Simulator, invoice: Make
) -> None:
    await spoil(client, reply={"invoice_create": {"lose_after_commit": True, "times": 1}})
    with pytest.raises(ConnectionResetError):
        await client.post("/v2/invoice", json=form())
    assert len(simulator.ledger.invoices) == 1
    items = (await client.get("/_sim/requests")).json()["items"]
    assert [(item["operation"], item["status"]) for item in items[-1:]] == [("invoice_create", None)]
    assert await invoice()


async def test_on_a_socket_the_connection_closes_without_a_byte(
    app: Starlette, simulator: Simulator, form: Form, served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    basic = {"Authorization": aiohttp.encode_basic_auth("TEST_A", "123456")}
    async with served(app) as base, aiohttp.ClientSession(base) as session:
        async with session.post("/v2/auth/token", headers=basic) as response:
            headers = {"Authorization": f"Bearer {(await response.json())['access_token']}"}
        faults = {"reply": {"invoice_create": {"lose_after_commit": True, "times": 1}}}
        async with session.put("/_sim/faults", json=faults) as response:
            assert response.status == 200
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await session.post("/v2/invoice", json=form(), headers=headers)
        assert len(simulator.ledger.invoices) == 1
        async with session.post("/v2/invoice", json=form(), headers=headers) as response:
            assert response.status == 200
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_hanging_answer_on_a_socket(form: Form, served: Serve) -> None:
    released = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await released.wait()

    app = create_simulator(sleep=sleep, faults={"reply": {"token": {"delay_seconds": 600}}})
    async with served(app) as base, aiohttp.ClientSession(base) as session:
        timeout = aiohttp.ClientTimeout(total=0.1)
        with pytest.raises(TimeoutError):
            await session.post("/v2/auth/token", timeout=timeout)
        released.set()


async def test_unknown_fields(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    made = await invoice()
    payment = await pay(made["invoice_id"])
    await spoil(client, shape={"unknown_fields": True})
    shown = (await client.get(f"/v2/payment/{payment}")).json()
    assert "simulator_unknown_field" in shown
    assert "simulator_unknown_field" in shown["p2p_transactions"][0]
    assert "simulator_unknown_field" in (await invoice())["urls"][0]


async def test_numbers_as_strings(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    made = await invoice()
    await pay(made["invoice_id"], amount=100.5)
    await spoil(client, shape={"numbers_as_strings": True})
    body = {"object_type": "INVOICE", "object_id": made["invoice_id"]}
    shown = (await client.post("/v2/payment/check", json=body)).json()
    assert (shown["count"], shown["paid_amount"]) == ("1", "100.50")
    invoiced = (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()
    assert (invoiced["gross_amount"], invoiced["tax_amount"]) == ("100.00", "0")
    assert invoiced["allow_partial"] is False


async def test_an_unknown_status(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    made = await invoice()
    payment = await pay(made["invoice_id"])
    await spoil(client, shape={"unknown_status": True})
    assert (await client.get(f"/v2/payment/{payment}")).json()["payment_status"] == "SIMULATOR_UNKNOWN"
    shown = (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()
    assert shown["invoice_status"] == shown["payments"][0]["payment_status"] == "SIMULATOR_UNKNOWN"


async def test_tokens_keep_their_shape(client: httpx2.AsyncClient) -> None:
    await spoil(client, shape={"numbers_as_strings": True, "unknown_fields": True})
    body = (await client.post("/v2/auth/token", auth=("TEST_MERCHANT", "123456"))).json()
    assert isinstance(body["expires_in"], int)
    assert "simulator_unknown_field" not in body


WRONG = [
    ({"callbck": {}}, "callbck"),
    ({"callback": {"drop": "yes"}}, "callback.drop"),
    ({"callback": {"method": "PUT"}}, "callback.method"),
    ({"callback": {"times": -1}}, "callback.times"),
    ({"callback": {"delay_seconds": 1e9}}, "callback.delay_seconds"),
    ({"reply": {"login": {}}}, "reply.login"),
    ({"reply": {"token": {"state": 500}}}, "reply.token.state"),
    ({"reply": {"token": {"status": 99}}}, "reply.token.status"),
    ({"token": {"lifetime_seconds": "5"}}, "token.lifetime_seconds"),
    ({"invoice": {"empty": True}}, "invoice.empty"),
    ({"shape": 1}, "shape"),
    ([], "body"),
]


@pytest.mark.parametrize(("faults", "where"), WRONG)
async def test_a_wrong_knob_is_named_and_changes_nothing(
    client: httpx2.AsyncClient, simulator: Simulator, faults: object, where: str
) -> None:
    await spoil(client, callback={"drop": True})
    response = await client.put("/_sim/faults", json=faults)
    assert response.status_code == 422
    assert where in response.json()["message"]
    assert simulator.faults.current.callback.drop


async def test_the_documented_example_is_taken_and_an_empty_object_clears(
    client: httpx2.AsyncClient, simulator: Simulator
) -> None:
    example = {
        "callback": {
            "drop": False,
            "delay_seconds": 0,
            "times": 1,
            "method": "GET",
            "before_visible_seconds": 0.5,
        },
        "reply": {
            "payment_check": {
                "status": 500,
                "body": "…",
                "delay_seconds": 0,
                "lose_after_commit": False,
                "times": 1,
            }
        },
        "token": {"lifetime_seconds": 86_400, "single": True},
        "invoice": {"reject_duplicates": False, "empty_qr_image": False},
        "shape": {"unknown_fields": False, "numbers_as_strings": False, "unknown_status": False},
    }
    response = await client.put("/_sim/faults", json=example)
    assert (response.status_code, response.json()) == (200, example)
    await spoil(client)
    assert simulator.faults.current == Faults()
    assert (await client.get("/_sim/faults")).json() == {"replies_left": {}, "fired": {}}
