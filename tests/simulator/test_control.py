"""The control plane: paying, looking back, starting afresh."""

import logging
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from tulbur.simulator import Simulator, journal

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Make = Callable[..., Awaitable[Body]]
Pay = Callable[..., Awaitable[str]]
Check = Callable[[str], Awaitable[Body]]


async def test_an_empty_body_pays_the_whole_invoice_from_a_bank(
    client: httpx2.AsyncClient, invoice: Make, check: Check
) -> None:
    made = await invoice(amount="123.45")
    response = await client.post(f"/_sim/invoices/{made['invoice_id']}/pay")
    assert response.status_code == 200
    assert set(response.json()) == {"payment_id", "callback"}
    assert response.json()["callback"]["status"] is None
    row = (await check(made["invoice_id"]))["rows"][0]
    assert (row["payment_type"], row["payment_amount"]) == ("P2P", "123.45")


@pytest.mark.parametrize("amount", [1, 0.01, "0.01", "250.50", 9_999_999_999])
async def test_any_amount_is_taken(invoice: Make, pay: Pay, check: Check, amount: object) -> None:
    made = await invoice()
    await pay(made["invoice_id"], amount=amount)
    assert (await check(made["invoice_id"]))["paid_amount"] == float(str(amount))


@pytest.mark.parametrize(
    "wish",
    [
        {"amount": 0},
        {"amount": "-5"},
        {"amount": "much"},
        {"amount": True},
        {"amount": 0.001},
        {"method": "CASH"},
        {"wallet": "x" * 101},
        {"callback": "no"},
        {"ammount": 5},
        [],
        "text",
    ],
)
async def test_wishes_that_make_no_sense(
    client: httpx2.AsyncClient, invoice: Make, wish: object, simulator: Simulator
) -> None:
    made = await invoice()
    response = await client.post(f"/_sim/invoices/{made['invoice_id']}/pay", json=wish)
    assert (response.status_code, response.json()["error"]) == (422, "invalid")
    assert simulator.ledger.payments == {}


async def test_unknown_ids_and_broken_bodies(client: httpx2.AsyncClient, invoice: Make) -> None:
    assert (await client.post("/_sim/invoices/none/pay")).status_code == 404
    assert (await client.post("/_sim/payments/none/fail")).status_code == 404
    made = await invoice()
    path = f"/_sim/invoices/{made['invoice_id']}/pay"
    for content in (b"{", b"\xff", b'{"amount": NaN}', b"[" * 50_000):
        assert (await client.post(path, content=content)).status_code == 400
    assert (await client.put("/_sim/faults", content=b" " * 200_000)).status_code == 413


async def test_a_failed_payment(client: httpx2.AsyncClient, invoice: Make, pay: Pay, check: Check) -> None:
    made = await invoice()
    payment = await pay(made["invoice_id"])
    assert (await client.post(f"/_sim/payments/{payment}/fail")).json()["payment_status"] == "FAILED"
    assert (await check(made["invoice_id"]))["rows"][0]["payment_status"] == "FAILED"
    assert (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()["invoice_status"] == "OPEN"


async def test_requests_are_written_down(client: httpx2.AsyncClient, invoice: Make) -> None:
    made = await invoice()
    await client.get(f"/v2/invoice/{made['invoice_id']}?a=b")
    items = (await client.get("/_sim/requests")).json()["items"]
    assert [(item["method"], item["path"], item["query"], item["status"]) for item in items] == [
        ("POST", "/v2/auth/token", "", 200),
        ("POST", "/v2/invoice", "", 200),
        ("GET", f"/v2/invoice/{made['invoice_id']}", "a=b", 200),
    ]
    assert items[1]["at"] == "2026-09-21T14:13:20.000Z"
    assert '"sender_invoice_no":"1234567"' in items[1]["body"]


async def test_the_log_is_bounded(
    client: httpx2.AsyncClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.post("/v2/invoice", content=b"x" * 70_000)
    assert len(simulator.journal.requests.items()[-1]["body"]) == 64 * 1024
    monkeypatch.setattr(journal, "MAX_BYTES", 200_000)
    for _ in range(10):
        await client.post("/v2/invoice", content=b"x" * 70_000)
    assert len(simulator.journal.requests.items()) == 3
    monkeypatch.setattr(journal, "MAX_ITEMS", 2)
    await client.post("/v2/invoice", content=b"x")
    assert len(simulator.journal.requests.items()) == 2


async def warnings(client: httpx2.AsyncClient) -> list[Body]:
    found: list[Body] = (await client.get("/_sim/requests")).json()["warnings"]
    return found


async def test_slow_polling_is_noticed_by_its_number(
    client: httpx2.AsyncClient,
    invoice: Make,
    check: Check,
    world: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = await invoice()
    with caplog.at_level(logging.WARNING, "tulbur.simulator"):
        for _ in range(20):
            await check(made["invoice_id"])
            world.now += 10
        assert await warnings(client) == []
        for _ in range(2):
            await check(made["invoice_id"])
            world.now += 10
    found = await warnings(client)
    assert [(item["invoice_id"], item["checks"]) for item in found] == [(made["invoice_id"], 22)]
    assert "more than 20 times" in found[0]["message"]
    assert [record.getMessage() for record in caplog.records] == [found[0]["message"]]


async def test_fast_polling_is_noticed_by_its_pace(
    client: httpx2.AsyncClient, invoice: Make, check: Check, world: SimpleNamespace
) -> None:
    made = await invoice()
    for _ in range(3):
        await check(made["invoice_id"])
        world.now += 0.5
    assert await warnings(client) == []
    await check(made["invoice_id"])
    assert ["faster than once a second" in item["message"] for item in await warnings(client)] == [True]


async def test_the_list_of_invoices(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    first, second = await invoice(), await invoice(sender_invoice_no="2")
    payment = await pay(first["invoice_id"])
    body = (await client.get("/_sim/invoices")).json()
    assert body["count"] == 2
    assert [item["invoice_id"] for item in body["items"]] == [second["invoice_id"], first["invoice_id"]]
    assert body["items"][1] == {
        "invoice_id": first["invoice_id"],
        "login": "TEST_MERCHANT",
        "invoice_code": "TEST_INVOICE",
        "sender_invoice_no": "1234567",
        "amount": "100.00",
        "status": "CLOSED",
        "created_at": "2026-09-21T14:13:20.000Z",
        "checks": 0,
        "payments": [
            {
                "payment_id": payment,
                "amount": "100.00",
                "currency": "MNT",
                "method": "P2P",
                "status": "PAID",
            }
        ],
    }


async def test_a_reset_forgets_everything_but_tokens(client: httpx2.AsyncClient, invoice: Make, check: Check) -> None:
    made = await invoice()
    await client.post(f"/_sim/invoices/{made['invoice_id']}/pay")
    await client.put("/_sim/faults", json={"invoice": {"reject_duplicates": True}})
    assert (await client.post("/_sim/reset")).json() == {}
    assert (await client.get("/_sim/requests")).json() == {"items": [], "warnings": [], "counts": {}}
    assert (await client.get("/_sim/callbacks")).json() == {"items": []}
    assert (await client.get("/_sim/invoices")).json() == {"items": [], "count": 0}
    assert (await client.get("/_sim/faults")).json() == {"replies_left": {}, "fired": {}}
    assert (await check(made["invoice_id"]))["count"] == 0
    assert (await invoice())["invoice_id"]
