"""Making, reading and cancelling invoices."""

import base64
import io
import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import zxingcpp
from PIL import Image
from starlette.applications import Starlette

from tulbur.simulator import Simulator, create_simulator, state

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Form = Callable[..., Body]
Make = Callable[..., Awaitable[Body]]
Pay = Callable[..., Awaitable[str]]

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
SCHEMES = [
    *("qpaywallet", "khanbank", "statebankmongolia", "xacbank", "tdbbank", "socialpay-payment"),
    *("most", "nibank", "ckbank", "capitronbank", "bogdbank", "transbank"),
    *("mbank", "ard", "toki", "arig", "monpay", "hipay"),
    *("tdbwallet", "sono", "payon", "tino", "pass"),
]


async def test_the_answer_to_a_new_invoice(invoice: Make) -> None:
    made = await invoice()
    assert list(made) == ["invoice_id", "qr_text", "qr_image", "qPay_shortUrl", "urls"]
    assert UUID.fullmatch(made["invoice_id"])
    assert made["qPay_shortUrl"].startswith("https://sandbox-s.qpay.mn/")
    assert [list(link) for link in made["urls"]] == [["name", "description", "logo", "link"]] * 23
    assert [link["link"] for link in made["urls"]] == [
        f"{scheme}://q?qPay_QRcode={made['qr_text']}" for scheme in SCHEMES
    ]
    assert made["urls"][1]["description"] == "Хаан банк"


async def test_the_picture_is_the_text(invoice: Make) -> None:
    made = await invoice(amount="50000", invoice_description="Цай, 2 ширхэг")
    image = Image.open(io.BytesIO(base64.b64decode(made["qr_image"], validate=True)))
    assert [code.text for code in zxingcpp.read_barcodes(image)] == [made["qr_text"]]


async def test_links_open_the_bank_page_in_the_demo(form: Form) -> None:
    app = create_simulator(bank_links=True, public_url="http://10.0.0.5:8765/")
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://simulator.test") as client:
        token = (await client.post("/v2/auth/token", auth=("TEST_MERCHANT", "123456"))).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        made = (await client.post("/v2/invoice", json=form(), headers=headers)).json()
        page = f"http://10.0.0.5:8765/bank/{made['invoice_id']}"
        assert {link["link"] for link in made["urls"]} == {made["qPay_shortUrl"]} == {page}
        assert len(made["urls"]) == 23


async def test_the_page_address_follows_the_request_without_a_public_url(app: Starlette, form: Form) -> None:
    simulator: Simulator = app.state.simulator
    simulator.bank_links = True
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://192.168.1.7:8765") as client:
        token = (await client.post("/v2/auth/token", auth=("TEST_MERCHANT", "123456"))).json()["access_token"]
        made = (await client.post("/v2/invoice", json=form(), headers={"Authorization": f"Bearer {token}"})).json()
    assert made["qPay_shortUrl"] == f"http://192.168.1.7:8765/bank/{made['invoice_id']}"


async def test_every_required_field_is_named_at_once(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v2/invoice", json={})
    assert response.status_code == 400
    body = response.json()
    assert body["error"] == body["message"]
    required = {"type": "REQUIRED", "message": "Required!"}
    names = [
        "invoice_code",
        "sender_invoice_no",
        "invoice_receiver_code",
        "invoice_description",
        "callback_url",
        "amount",
    ]
    assert body["error"] == dict.fromkeys(names, required)


@pytest.mark.parametrize(
    ("field", "limit"),
    [
        ("invoice_code", 45),
        ("sender_invoice_no", 45),
        ("invoice_receiver_code", 45),
        ("invoice_description", 255),
        ("callback_url", 255),
        ("sender_branch_code", 45),
        ("sender_staff_code", 100),
        ("sender_terminal_code", 45),
        ("note", 1000),
    ],
)
async def test_lengths(client: httpx2.AsyncClient, form: Form, field: str, limit: int) -> None:
    assert (await client.post("/v2/invoice", json=form(**{field: "ө" * limit}))).status_code == 200
    response = await client.post("/v2/invoice", json=form(**{field: "ө" * (limit + 1)}))
    assert response.status_code == 400
    assert response.json()["error"] == {field: {"type": "MAX_LENGTH", "message": f"String max length ({limit})!"}}
    assert response.json()["message"] == response.json()["error"]


async def test_nested_fields_are_checked_too(client: httpx2.AsyncClient, form: Form) -> None:
    body = form(amount=None, invoice_receiver_data={"register": "x" * 21}, sender_staff_data=[], lines=[{"taxes": 1}])
    response = await client.post("/v2/invoice", json=body)
    assert response.status_code == 400
    assert set(response.json()["error"]) == {
        "invoice_receiver_data.register",
        "sender_staff_data",
        "lines[0].line_description",
        "lines[0].line_quantity",
        "lines[0].line_unit_price",
        "lines[0].taxes",
    }


@pytest.mark.parametrize("amount", [100, 100.0, "100", "100.00", 100.5, "100.5", "9999999999.99"])
async def test_amounts_may_be_numbers_or_strings(client: httpx2.AsyncClient, invoice: Make, amount: object) -> None:
    made = await invoice(amount=amount)
    shown = (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()
    assert shown["total_amount"] == f"{Decimal(str(amount)):.2f}"
    assert shown["gross_amount"] == float(str(amount))


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        (0, "INVALID_AMOUNT"),
        (-1, "INVALID_AMOUNT"),
        ("0.001", "INVALID_AMOUNT"),
        (10_000_000_000, "MAX_AMOUNT_ERR"),
        ("1e3", {"amount": {"type": "INVALID", "message": "Invalid!"}}),
        (True, {"amount": {"type": "INVALID", "message": "Invalid!"}}),
        ([1], {"amount": {"type": "INVALID", "message": "Invalid!"}}),
        ("NaN", {"amount": {"type": "INVALID", "message": "Invalid!"}}),
        ("100 000", {"amount": {"type": "INVALID", "message": "Invalid!"}}),
    ],
)
async def test_amounts_that_are_none(client: httpx2.AsyncClient, form: Form, amount: object, error: object) -> None:
    response = await client.post("/v2/invoice", json=form(amount=amount))
    assert (response.status_code, response.json()["error"]) == (400, error)


async def test_lines_make_the_amount(client: httpx2.AsyncClient, invoice: Make) -> None:
    lines = [
        {
            "line_description": "Цай",
            "line_quantity": "2.00",
            "line_unit_price": "1000.00",
            "discounts": [{"description": "-", "amount": 100}],
            "surcharges": [{"description": "+", "amount": "50"}],
            "taxes": [{"tax_code": "VAT", "description": "НӨАТ", "amount": 181.8181}],
        },
        {"line_description": "Талх", "line_quantity": 1, "line_unit_price": 550.5},
    ]
    made = await invoice(amount=None, lines=lines)
    shown = (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()
    assert shown["total_amount"] == "2500.50"
    assert shown["lines"] == lines


async def test_reading_an_invoice(client: httpx2.AsyncClient, invoice: Make) -> None:
    made = await invoice(sender_branch_code="SALBAR1", enable_expiry="false", expiry_date="2027-01-01")
    shown = (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()
    assert list(shown) == [
        "invoice_id",
        "invoice_status",
        "sender_invoice_no",
        "sender_branch_code",
        "sender_branch_data",
        "sender_staff_code",
        "sender_staff_data",
        "sender_terminal_code",
        "sender_terminal_data",
        "invoice_description",
        "invoice_due_date",
        "enable_expiry",
        "expiry_date",
        "allow_partial",
        "minimum_amount",
        "allow_exceed",
        "maximum_amount",
        "total_amount",
        "gross_amount",
        "tax_amount",
        "surcharge_amount",
        "discount_amount",
        "callback_url",
        "note",
        "lines",
        "transactions",
        "inputs",
        "payments",
    ]
    assert shown["invoice_status"] == "OPEN"
    assert shown["sender_branch_code"] == "SALBAR1"
    assert shown["enable_expiry"] is False
    assert shown["expiry_date"] == "2026-09-21T14:13:20.000Z"
    assert (shown["minimum_amount"], shown["maximum_amount"]) == ("0.00", "0.00")
    assert (shown["total_amount"], shown["gross_amount"]) == ("100.00", 100)
    assert shown["payments"] == []


async def test_duplicate_numbers_are_taken_by_default_and_refused_when_told(
    client: httpx2.AsyncClient, invoice: Make, form: Form
) -> None:
    first, second = await invoice(), await invoice()
    assert first["invoice_id"] != second["invoice_id"]
    await client.put("/_sim/faults", json={"invoice": {"reject_duplicates": True}})
    assert (await client.post("/v2/invoice", json=form())).status_code == 409
    assert (await client.post("/v2/invoice", json=form(sender_invoice_no="other"))).status_code == 200


async def test_an_empty_picture_when_told(client: httpx2.AsyncClient, invoice: Make) -> None:
    await client.put("/_sim/faults", json={"invoice": {"empty_qr_image": True}})
    assert (await invoice())["qr_image"] == ""


async def test_unknown_invoices(client: httpx2.AsyncClient) -> None:
    for response in (await client.get("/v2/invoice/none"), await client.delete("/v2/invoice/none")):
        assert response.status_code == 422
        assert response.json() == {"error": "INVOICE_NOTFOUND", "message": "Нэхэмжлэл олдсонгүй"}


async def test_an_invoice_belongs_to_its_login(
    client: httpx2.AsyncClient, anonymous: httpx2.AsyncClient, invoice: Make, pay: Pay
) -> None:
    made = await invoice()
    payment = await pay(made["invoice_id"])
    other = (await anonymous.post("/v2/auth/token", auth=("TEST_OTHER", "123456"))).json()["access_token"]
    anonymous.headers["Authorization"] = f"Bearer {other}"
    assert (await anonymous.get(f"/v2/invoice/{made['invoice_id']}")).status_code == 422
    assert (await anonymous.delete(f"/v2/invoice/{made['invoice_id']}")).status_code == 422
    assert (await anonymous.get(f"/v2/payment/{payment}")).status_code == 422
    body = {"object_type": "INVOICE", "object_id": made["invoice_id"]}
    assert (await anonymous.post("/v2/payment/check", json=body)).json() == {"count": 0, "rows": []}
    assert (await client.get(f"/v2/payment/{payment}")).status_code == 200


async def test_a_paid_invoice_is_closed_and_cannot_be_cancelled(
    client: httpx2.AsyncClient, invoice: Make, pay: Pay
) -> None:
    made = await invoice()
    await pay(made["invoice_id"])
    shown = (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()
    assert (shown["invoice_status"], len(shown["payments"])) == ("CLOSED", 1)
    response = await client.delete(f"/v2/invoice/{made['invoice_id']}")
    assert response.status_code == 400
    assert response.json() == {"error": "INVOICE_PAID", "message": "Нэхэмжлэл төлөгдсөн"}


async def test_a_cancelled_invoice_says_so_and_takes_no_money(client: httpx2.AsyncClient, invoice: Make) -> None:
    made = await invoice()
    await client.delete(f"/v2/invoice/{made['invoice_id']}")
    assert (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()["invoice_status"] == "CANCELED"
    assert (await client.post(f"/_sim/invoices/{made['invoice_id']}/pay")).status_code == 409


async def test_too_many_invoices_are_refused_clearly(
    client: httpx2.AsyncClient, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "MAX_INVOICES", 1)
    assert (await client.post("/v2/invoice", json=form())).status_code == 200
    response = await client.post("/v2/invoice", json=form())
    assert response.status_code == 500
    assert response.json()["error"] == "SYSTEM_BUSY"
    assert "/_sim/reset" in response.json()["message"]
