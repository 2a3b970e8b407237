"""VAT receipts and subscriptions."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

pytestmark = pytest.mark.anyio

Make = Callable[..., Awaitable[dict[str, Any]]]
Pay = Callable[..., Awaitable[str]]


@pytest.mark.parametrize("path", ["ebarimt_v3/create", "ebarimt/create"])
async def test_the_life_of_a_receipt(client: httpx2.AsyncClient, invoice: Make, pay: Pay, path: str) -> None:
    payment = await pay((await invoice(amount=2000, invoice_code="TEST_EB_INVOICE"))["invoice_id"])
    body = {"payment_id": payment, "ebarimt_receiver_type": "CITIZEN", "ebarimt_receiver": "99119911"}
    made = (await client.post(f"/v2/{path}", json=body)).json()
    assert (made["amount"], made["vat_amount"], made["city_tax_amount"]) == ("2000.00", "181.8181", "0.00")
    assert (made["g_payment_id"], made["barimt_status"]) == (payment, "REGISTERED")
    assert (len(made["ebarimt_receipt_id"]), made["ebarimt_lottery"][:3]) == (33, "HV ")
    assert (await client.post(f"/v2/{path}", json=body)).json() == made
    assert (await client.get(f"/v2/ebarimt/{made['id']}")).json() == made
    gone = (await client.request("DELETE", f"/v2/ebarimt_v3/{payment}", json={"note": "x"})).json()
    assert gone["barimt_status"] == "CANCELED"
    assert gone["barimt_histories"] == []
    again = await client.delete(f"/v2/ebarimt_v3/{payment}")
    assert (again.status_code, again.json()["error"]) == (422, "EBARIMT_NOT_REGISTERED")


async def test_receipts_that_cannot_be(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    payment = await pay((await invoice())["invoice_id"])
    missing = await client.post("/v2/ebarimt_v3/create", json={})
    assert set(missing.json()["error"]) == {"payment_id", "ebarimt_receiver_type"}
    wrong = await client.post("/v2/ebarimt_v3/create", json={"payment_id": payment, "ebarimt_receiver_type": "83"})
    assert set(wrong.json()["error"]) == {"ebarimt_receiver_type"}
    unknown = await client.get("/v2/ebarimt/none")
    assert unknown.status_code == 422
    assert unknown.json() == {"error": "BARIMT_NOT_FOUND", "message": "BARIMT_NOT_FOUND"}
    assert (await client.delete("/v2/ebarimt_v3/none")).status_code == 422


async def test_a_subscription(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    made = await invoice(
        allow_subscribe=True, subscription_interval="1M", subscription_webhook="https://example.mn/hook"
    )
    subscription = made["subscription"]
    assert (subscription["interval"], subscription["g_invoice_id"]) == ("1M", made["invoice_id"])
    payment = await pay(made["invoice_id"], method="CARD")
    shown = (await client.get(f"/v2/subscription/{subscription['id']}")).json()
    assert shown["is_active"] is True
    assert [row["payment_id"] for row in shown["payments"]] == [payment]
    assert (await client.delete(f"/v2/subscription/{subscription['id']}")).content == b"{}"
    assert (await client.get(f"/v2/subscription/{subscription['id']}")).json()["is_active"] is False
    assert (await client.get("/v2/subscription/none")).status_code == 422
