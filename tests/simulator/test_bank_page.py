"""The pages for people."""

import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from tulbur.simulator import Simulator

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Make = Callable[..., Awaitable[Body]]
Pay = Callable[..., Awaitable[str]]


async def press(client: httpx2.AsyncClient, made: Body, **fields: str) -> httpx2.Response:
    return await client.post(f"/bank/{made['invoice_id']}/pay", data=fields, follow_redirects=True)


async def test_the_page_shows_what_is_asked(client: httpx2.AsyncClient, invoice: Make) -> None:
    made = await invoice(amount=50_000, invoice_description="Цай <b>2</b>")
    response = await client.get(f"/bank/{made['invoice_id']}")
    assert response.status_code == 200
    assert '<html lang="mn">' in response.text
    assert "width=device-width" in response.text
    assert "TEST_MERCHANT" in response.text
    assert "Цай &lt;b&gt;2&lt;/b&gt;" in response.text
    assert "50,000₮" in response.text
    assert "readonly>" in response.text
    assert "Төлөх · Pay" in response.text


async def test_no_page_asks_anybody_else(client: httpx2.AsyncClient, invoice: Make) -> None:
    made = await invoice()
    for path in ("/", f"/bank/{made['invoice_id']}", "/bank/none"):
        response = await client.get(path)
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", response.text) == []
        assert "<script" not in response.text
        assert "url(" not in response.text


async def test_the_button_pays_and_calls_back(
    client: httpx2.AsyncClient, invoice: Make, merchant: SimpleNamespace, simulator: Simulator
) -> None:
    made = await invoice(callback_url=f"{merchant.url}/hook")
    response = await press(client, made, amount="100", method="P2P")
    assert response.url.path == f"/bank/{made['invoice_id']}"
    assert "Төлөгдсөн" in response.text
    assert "200 SUCCESS" in response.text
    assert 'id="pay"' not in response.text
    assert len(merchant.seen) == 1
    again = await press(client, made, amount="100")
    assert "Төлөгдсөн" in again.text
    assert len(simulator.ledger.payments) == len(merchant.seen) == 1


async def test_a_card_can_be_chosen(client: httpx2.AsyncClient, invoice: Make, simulator: Simulator) -> None:
    await press(client, await invoice(), method="CARD")
    assert [payment.method for payment in simulator.ledger.payments.values()] == ["CARD"]


@pytest.mark.parametrize(
    ("terms", "amount", "accepted", "text"),
    [
        ({}, "99", False, "хувааж төлөх боломжгүй"),
        ({}, "101", False, "илүү төлөх боломжгүй"),
        ({}, "much", False, "Дүнгээ шалгана уу"),
        ({}, "-1", False, "Дүнгээ шалгана уу"),
        ({}, "", True, "Төлөгдсөн"),
        ({"allow_partial": True}, "60", True, "Paid so far"),
        ({"allow_partial": True, "minimum_amount": 50}, "49.99", False, "доод хэмжээнээс бага"),
        ({"allow_partial": True}, "101", False, "илүү төлөх боломжгүй"),
        ({"allow_exceed": True}, "150", True, "Төлөгдсөн"),
        ({"allow_exceed": True, "maximum_amount": "120"}, "150", False, "дээд хэмжээнээс их"),
        ({"allow_exceed": True}, "99", False, "хувааж төлөх боломжгүй"),
    ],
)
async def test_a_payer_can_change_the_amount_only_as_allowed(
    client: httpx2.AsyncClient,
    invoice: Make,
    simulator: Simulator,
    *,
    terms: Body,
    amount: str,
    accepted: bool,
    text: str,
) -> None:
    made = await invoice(**terms)
    page = await client.get(f"/bank/{made['invoice_id']}")
    assert ("readonly>" in page.text) == (not terms)
    response = await press(client, made, amount=amount)
    assert (response.status_code, len(simulator.ledger.payments)) == ((200, 1) if accepted else (422, 0))
    assert text in response.text


async def test_the_rest_of_a_part_paid_invoice(client: httpx2.AsyncClient, invoice: Make, simulator: Simulator) -> None:
    made = await invoice(allow_partial=True)
    await press(client, made, amount="60")
    page = await client.get(f"/bank/{made['invoice_id']}")
    assert 'value="40"' in page.text
    assert "Төлөгдсөн" in (await press(client, made, amount="40")).text
    assert [payment.status for payment in simulator.ledger.payments.values()] == ["PARTIAL", "PARTIAL"]


async def test_a_cancelled_invoice_says_so(client: httpx2.AsyncClient, invoice: Make, simulator: Simulator) -> None:
    made = await invoice()
    await client.delete(f"/v2/invoice/{made['invoice_id']}")
    assert "Нэхэмжлэл цуцлагдсан" in (await client.get(f"/bank/{made['invoice_id']}")).text
    assert "Нэхэмжлэл цуцлагдсан" in (await press(client, made)).text
    assert simulator.ledger.payments == {}


async def test_pages_of_nothing(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/bank/none")).status_code == 404
    assert (await client.post("/bank/none/pay")).status_code == 404


@pytest.mark.parametrize("content", [b"\xff\xff=%ff", b"&" * 90_000, b"a=1&" * 50, b"x" * 200_000])
async def test_hostile_forms(client: httpx2.AsyncClient, invoice: Make, simulator: Simulator, content: bytes) -> None:
    made = await invoice()
    response = await client.post(f"/bank/{made['invoice_id']}/pay", content=content)
    assert response.status_code in {303, 422}
    assert len(simulator.ledger.payments) <= 1


async def test_the_index_lists_invoices(client: httpx2.AsyncClient, invoice: Make) -> None:
    assert "None yet" in (await client.get("/")).text
    made = await invoice()
    page = (await client.get("/")).text
    assert f'href="bank/{made["invoice_id"]}"' in page
    assert "http://simulator.test/_sim/reset" in page


async def test_a_refused_amount_can_be_corrected_on_the_same_page(client: httpx2.AsyncClient, invoice: Make) -> None:
    made = await invoice(allow_partial=True, minimum_amount=50)
    path = f"/bank/{made['invoice_id']}"
    for page in (await client.get(path), await press(client, made, amount="1")):
        assert f'action="{path}/pay"' in page.text
