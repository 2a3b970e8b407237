"""Payments: what check, get and list tell, and what can be given back."""

import base64
import json
import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Make = Callable[..., Awaitable[Body]]
Pay = Callable[..., Awaitable[str]]
Check = Callable[[str], Awaitable[Body]]


async def test_a_bank_payment_in_check(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    made = await invoice()
    payment = await pay(made["invoice_id"])
    body = {"object_type": "INVOICE", "object_id": made["invoice_id"]}
    response = await client.post("/v2/payment/check", json=body)
    expected = (
        '{"count":1,"paid_amount":100,"rows":[{"payment_id":"PAYMENT","payment_status":"PAID",'
        '"payment_amount":"100.00","ebarimt_customer_no":null,"trx_fee":"1.00","payment_currency":"MNT",'
        '"payment_wallet":"Хаан банк апп","payment_type":"P2P","next_payment_date":null,'
        '"next_payment_datetime":null,"card_transactions":[],"p2p_transactions":[{'
        '"transaction_bank_code":"050000","account_bank_code":"050000","account_bank_name":"Хаан банк",'
        '"account_number":"50*******","status":"SUCCESS","amount":"99.00","currency":"MNT",'
        '"settlement_status":"SETTLED"}]}]}'
    )
    assert response.content == expected.replace("PAYMENT", payment).encode()


async def test_a_bank_payment_alone(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    made = await invoice(amount="100.50")
    payment = await pay(made["invoice_id"])
    shown = (await client.get(f"/v2/payment/{payment}")).json()
    assert list(shown) == [
        "payment_id",
        "payment_status",
        "payment_fee",
        "payment_amount",
        "payment_currency",
        "payment_date",
        "payment_wallet",
        "object_type",
        "object_id",
        "next_payment_date",
        "next_payment_datetime",
        "transaction_type",
        "card_transactions",
        "p2p_transactions",
    ]
    assert shown["payment_id"] == payment
    assert (shown["payment_fee"], shown["payment_amount"]) == ("1.01", "100.50")
    assert (shown["object_type"], shown["object_id"]) == ("INVOICE", made["invoice_id"])
    assert (shown["transaction_type"], shown["payment_date"]) == ("P2P", "2026-09-21T14:13:20.000Z")
    assert "id" in shown["p2p_transactions"][0]


async def test_a_card_is_named_differently_in_check_and_get(
    client: httpx2.AsyncClient, invoice: Make, pay: Pay, check: Check
) -> None:
    made = await invoice()
    payment = await pay(made["invoice_id"], method="CARD", wallet="qPay wallet")
    assert re.fullmatch(r"[0-9a-f-]{36}", payment)
    row = (await check(made["invoice_id"]))["rows"][0]
    assert (row["payment_type"], row["payment_wallet"], row["p2p_transactions"]) == (
        "CARD",
        "qPay wallet",
        [],
    )
    assert "ebarimt_customer_no" not in row
    assert list(row["card_transactions"][0]) == [
        "card_type",
        "is_cross_border",
        "amount",
        "currency",
        "date",
        "status",
        "settlement_status",
        "settlement_status_date",
    ]
    assert (row["card_transactions"][0]["amount"], row["card_transactions"][0]["settlement_status"]) == (
        "100.00",
        "PENDING",
    )
    shown = (await client.get(f"/v2/payment/{payment}")).json()
    assert list(shown["card_transactions"][0]) == [
        "card_merchant_code",
        "card_terminal_code",
        "card_number",
        "card_type",
        "is_cross_border",
        "transaction_amount",
        "transaction_currency",
        "transaction_date",
        "transaction_status",
        "settlement_status",
        "settlement_status_date",
    ]


async def test_bank_payment_ids_are_text_and_some_begin_with_zero(invoice: Make, pay: Pay) -> None:
    ids = [await pay((await invoice())["invoice_id"]) for _ in range(8)]
    assert all(re.fullmatch(r"\d{15}", payment) for payment in ids)
    assert [payment[0] == "0" for payment in ids] == [True, False, False, False] * 2


@pytest.mark.parametrize(
    ("allow_partial", "amount", "status", "state"),
    [
        (True, "60", "PARTIAL", "OPEN"),
        (False, "60", "PAID", "CLOSED"),
        (True, "100", "PAID", "CLOSED"),
        (False, 150, "PAID", "CLOSED"),
    ],
)
async def test_short_and_over(
    client: httpx2.AsyncClient,
    invoice: Make,
    pay: Pay,
    check: Check,
    *,
    allow_partial: bool,
    amount: object,
    status: str,
    state: str,
) -> None:
    made = await invoice(allow_partial=allow_partial)
    await pay(made["invoice_id"], amount=amount)
    body = await check(made["invoice_id"])
    assert (body["paid_amount"], body["rows"][0]["payment_status"]) == (float(str(amount)), status)
    assert (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()["invoice_status"] == state


async def test_parts_close_the_invoice_when_they_add_up(
    client: httpx2.AsyncClient, invoice: Make, pay: Pay, check: Check
) -> None:
    made = await invoice(allow_partial=True)
    await pay(made["invoice_id"], amount=60)
    await pay(made["invoice_id"], amount="40.00")
    body = await check(made["invoice_id"])
    assert (body["count"], body["paid_amount"]) == (2, 100)
    assert [row["payment_status"] for row in body["rows"]] == ["PARTIAL", "PARTIAL"]
    assert (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()["invoice_status"] == "CLOSED"


async def test_paid_twice_is_two_rows(invoice: Make, pay: Pay, check: Check) -> None:
    made = await invoice()
    ids = [await pay(made["invoice_id"]), await pay(made["invoice_id"], amount="100.25")]
    body = await check(made["invoice_id"])
    assert [row["payment_id"] for row in body["rows"]] == ids
    assert (body["count"], body["paid_amount"]) == (2, 200.25)


async def test_another_currency(invoice: Make, pay: Pay, check: Check) -> None:
    made = await invoice()
    await pay(made["invoice_id"], currency="USD")
    assert (await check(made["invoice_id"]))["rows"][0]["payment_currency"] == "USD"


async def test_giving_a_card_payment_back(client: httpx2.AsyncClient, invoice: Make, pay: Pay, check: Check) -> None:
    made = await invoice()
    payment = await pay(made["invoice_id"], method="CARD")
    response = await client.request("DELETE", f"/v2/payment/refund/{payment}", json={"note": "butsaalt"})
    assert (response.status_code, response.content) == (200, b"{}")
    row = (await check(made["invoice_id"]))["rows"][0]
    assert (row["payment_status"], row["payment_amount"]) == ("REFUNDED", "100.00")
    assert (await client.get(f"/v2/payment/{payment}")).json()["payment_status"] == "REFUNDED"
    again = await client.request("DELETE", f"/v2/payment/cancel/{payment}")
    assert (again.status_code, again.json()["error"]) == (400, "PAYMENT_ALREADY_CANCELED")


async def test_a_long_note_and_an_unknown_payment(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    payment = await pay((await invoice())["invoice_id"], method="CARD")
    response = await client.request("DELETE", f"/v2/payment/refund/{payment}", json={"note": "x" * 256})
    assert response.json()["error"] == {"note": {"type": "MAX_LENGTH", "message": "String max length (255)!"}}
    for path in ("payment/none", "payment/refund/none"):
        response = await client.request("GET" if path == "payment/none" else "DELETE", f"/v2/{path}")
        assert response.status_code == 422
        assert response.json() == {"error": "PAYMENT_NOTFOUND", "message": "Төлбөр олдсонгүй"}


async def test_the_portal_gives_back_bank_payments_too(
    client: httpx2.AsyncClient, invoice: Make, pay: Pay, check: Check
) -> None:
    made = await invoice()
    payment = await pay(made["invoice_id"])
    response = await client.post(f"/_sim/payments/{payment}/refund")
    assert response.json() == {"payment_id": payment, "payment_status": "REFUNDED"}
    body = await check(made["invoice_id"])
    assert (body["count"], body["paid_amount"]) == (1, 0)
    assert (await client.post(f"/_sim/payments/{payment}/refund")).status_code == 409
    assert (await client.post("/_sim/payments/none/refund")).status_code == 404


async def test_pages_of_a_check(client: httpx2.AsyncClient, invoice: Make, pay: Pay) -> None:
    made = await invoice()
    ids = [await pay(made["invoice_id"]) for _ in range(3)]
    body = {
        "object_type": "INVOICE",
        "object_id": made["invoice_id"],
        "offset": {"page_number": 2, "page_limit": 2},
    }
    shown = (await client.post("/v2/payment/check", json=body)).json()
    assert (shown["count"], shown["paid_amount"]) == (3, 300)
    assert [row["payment_id"] for row in shown["rows"]] == ids[2:]


@pytest.mark.parametrize(
    ("offset", "error"),
    [
        ({"page_limit": 101}, {"page_limit": {"type": "MAX_NUMBER", "message": "Number max value [100]!"}}),
        ({"page_limit": 0}, {"page_limit": {"type": "MIN_NUMBER", "message": "Number min value [1]!"}}),
        ({"page_number": 101}, {"page_number": {"type": "MAX_NUMBER", "message": "Number max value [100]!"}}),
        ({"page_number": 1.5}, {"page_number": {"type": "INVALID", "message": "Invalid!"}}),
        ([], {"offset": {"type": "INVALID", "message": "Invalid!"}}),
    ],
)
async def test_offsets_of_a_check(client: httpx2.AsyncClient, offset: object, error: object) -> None:
    body = {"object_type": "INVOICE", "object_id": "x", "offset": offset}
    response = await client.post("/v2/payment/check", json=body)
    assert (response.status_code, response.json()["error"]) == (400, error)


async def test_what_can_be_checked(client: httpx2.AsyncClient) -> None:
    for kind in ("QR", "ITEM", "INVOICE"):
        response = await client.post("/v2/payment/check", json={"object_type": kind, "object_id": "none"})
        assert response.json() == {"count": 0, "rows": []}
    response = await client.post("/v2/payment/check", json={"object_type": "PAYMENT", "object_id": "x"})
    assert response.status_code == 400
    assert response.json() == {"error": "INVALID_OBJECT_TYPE", "message": "object_type буруу"}


@pytest.fixture
def listing(client: httpx2.AsyncClient) -> Callable[..., Awaitable[httpx2.Response]]:
    async def ask(**changes: object) -> httpx2.Response:
        body = {
            "object_type": "INVOICE",
            "object_id": "TEST_INVOICE",
            "offset": {"page_number": 1, "page_limit": 100},
        }
        return await client.post("/v2/payment/list", json={**body, **changes})

    return ask


def ids(response: httpx2.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [row["payment_id"] for row in response.json()["rows"]]


async def test_a_row_of_the_list(invoice: Make, pay: Pay, listing: Callable[..., Awaitable[httpx2.Response]]) -> None:
    assert (await listing()).content == b'{"count":0,"rows":[]}'
    made = await invoice()
    payment = await pay(made["invoice_id"])
    body = (await listing()).json()
    assert body["count"] == 1
    assert list(body["rows"][0].items()) == [
        ("payment_id", payment),
        ("payment_date", "2026-09-21T14:13:20.000Z"),
        ("payment_status", "PAID"),
        ("payment_fee", "1.00"),
        ("payment_amount", "100.00"),
        ("payment_currency", "MNT"),
        ("payment_wallet", "Хаан банк апп"),
        ("payment_name", ""),
        ("payment_description", "test"),
        ("qr_code", made["qr_text"]),
        ("paid_by", "P2P"),
        ("object_type", "INVOICE"),
        ("object_id", made["invoice_id"]),
        ("next_payment_date", None),
        ("next_payment_datetime", None),
    ]


async def test_a_window_is_told_in_ulaanbaatars_time(
    invoice: Make, pay: Pay, world: SimpleNamespace, listing: Callable[..., Awaitable[httpx2.Response]]
) -> None:
    # 14:13:20 UTC is 22:13:20 in Ulaanbaatar.
    first = await pay((await invoice())["invoice_id"])
    world.now += 10
    second = await pay((await invoice())["invoice_id"])
    window = {"start_date": "2026-09-21 22:13:20", "end_date": "2026-09-21 22:13:30"}
    assert ids(await listing(**window)) == [first, second]
    assert ids(await listing(**{**window, "start_date": "2026-09-21 22:13:21"})) == [second]
    assert ids(await listing(**{**window, "end_date": "2026-09-21 22:13:29"})) == [first]
    assert ids(await listing(start_date="2026-09-21 14:13:20", end_date="2026-09-21 14:13:30")) == []
    assert ids(await listing(start_date="2026-09-21T14:13:30Z")) == [second]
    response = await listing(start_date="yesterday")
    assert response.json()["error"] == {"start_date": {"type": "INVALID", "message": "Invalid!"}}


async def test_lists_by_code_by_branch_and_by_page(
    invoice: Make, pay: Pay, listing: Callable[..., Awaitable[httpx2.Response]]
) -> None:
    first = await pay((await invoice(sender_branch_code="A"))["invoice_id"])
    second = await pay((await invoice(sender_branch_code="B"))["invoice_id"])
    await pay((await invoice(invoice_code="TEST_EB_INVOICE"))["invoice_id"])
    assert ids(await listing()) == [first, second]
    assert ids(await listing(merchant_branch_code="B")) == [second]
    paged = await listing(offset={"page_number": 2, "page_limit": 1})
    assert ids(paged) == [second]
    assert paged.json()["count"] == 2


async def test_the_merchants_own_list_wants_the_id_in_the_token(
    client: httpx2.AsyncClient,
    invoice: Make,
    pay: Pay,
    listing: Callable[..., Awaitable[httpx2.Response]],
) -> None:
    payment = await pay((await invoice())["invoice_id"])
    claims = client.headers["Authorization"].split(".")[1]
    merchant = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["merchant_id"]
    assert ids(await listing(object_type="MERCHANT", object_id=merchant)) == [payment]
    response = await listing(object_type="MERCHANT", object_id="TEST_MERCHANT")
    assert response.status_code == 401
    assert response.json() == {"error": "PERMISSION_DENIED", "message": "Хандах эрх хүрэхгүй байна"}
    assert (await listing(object_type="ITEM")).json()["error"] == "INVALID_OBJECT_TYPE"
    assert ids(await listing(object_type="QR")) == []
