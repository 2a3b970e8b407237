"""The call to the merchant, over real sockets."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from aiohttp import web

from tulbur.simulator import Simulator, callbacks
from tulbur.simulator.callbacks import with_payment

pytestmark = pytest.mark.anyio

Body = dict[str, Any]
Make = Callable[..., Awaitable[Body]]
Check = Callable[[str], Awaitable[Body]]


async def pay(client: httpx2.AsyncClient, invoice_id: str, **wish: object) -> Body:
    response = await client.post(f"/_sim/invoices/{invoice_id}/pay", json=wish)
    assert response.status_code == 200, response.text
    body: Body = response.json()
    return body


async def recorded(client: httpx2.AsyncClient) -> list[Body]:
    items: list[Body] = (await client.get("/_sim/callbacks")).json()["items"]
    return items


@pytest.mark.parametrize(
    ("url", "called"),
    [
        ("http://m/hook", "http://m/hook?qpay_payment_id=012"),
        ("http://m/hook?", "http://m/hook?qpay_payment_id=012"),
        ("http://m/hook?a=b%2Fc+d", "http://m/hook?a=b%2Fc+d&qpay_payment_id=012"),
        ("http://m/hook?a=b&", "http://m/hook?a=b&qpay_payment_id=012"),
        ("http://m#top", "http://m?qpay_payment_id=012#top"),
    ],
)
def test_the_parameter_joins_the_query(url: str, called: str) -> None:
    assert with_payment(url, "012") == called


async def test_the_callback_is_a_get_with_the_payment_id(
    client: httpx2.AsyncClient, invoice: Make, merchant: SimpleNamespace
) -> None:
    made = await invoice(callback_url=f"{merchant.url}/hook/s1?token=a%2Fb")
    paid = await pay(client, made["invoice_id"])
    assert paid["callback"] == {"status": 200, "body": "SUCCESS"}
    assert merchant.seen == [("GET", f"/hook/s1?token=a%2Fb&qpay_payment_id={paid['payment_id']}", "")]
    assert await recorded(client) == [
        {
            "at": "2026-09-21T14:13:20.000Z",
            "invoice_id": made["invoice_id"],
            "payment_id": paid["payment_id"],
            "method": "GET",
            "url": f"{merchant.url}/hook/s1?token=a%2Fb&qpay_payment_id={paid['payment_id']}",
            "status": 200,
            "body": "SUCCESS",
            "problem": None,
        }
    ]


@pytest.mark.parametrize(
    ("status", "text", "problem"),
    [
        (200, "success", "body is not exactly SUCCESS"),
        (200, "SUCCESS\n", "body is not exactly SUCCESS"),
        (200, '{"ok":true}', "body is not exactly SUCCESS"),
        (201, "SUCCESS", "status 201 instead of 200"),
        (404, "Not Found", "status 404 instead of 200"),
    ],
)
async def test_any_other_reply_is_flagged(
    client: httpx2.AsyncClient,
    invoice: Make,
    merchant: SimpleNamespace,
    status: int,
    text: str,
    problem: str,
) -> None:
    merchant.answer = lambda: web.Response(status=status, text=text)
    made = await invoice(callback_url=f"{merchant.url}/hook")
    assert (await pay(client, made["invoice_id"]))["callback"] == {"status": status, "body": text}
    assert [item["problem"] for item in await recorded(client)] == [problem]


async def test_redirects_are_not_followed_and_bodies_are_cut(
    client: httpx2.AsyncClient, invoice: Make, merchant: SimpleNamespace
) -> None:
    made = await invoice(callback_url=f"{merchant.url}/hook")
    merchant.answer = lambda: web.Response(status=302, headers={"Location": f"{merchant.url}/elsewhere"})
    assert (await pay(client, made["invoice_id"]))["callback"]["status"] == 302
    assert len(merchant.seen) == 1
    merchant.answer = lambda: web.Response(text="x" * 10_000_000)
    assert len((await pay(client, made["invoice_id"]))["callback"]["body"]) == 64 * 1024


@pytest.mark.parametrize(
    "url",
    [
        "https://qpay.mn/hook",
        "https://merchant.qpay.mn/v2?x=1",
        "https://QPAY.MN./hook",
        "http://qpay。mn/hook",
        "http://user@sandbox.qpay.mn:8080/",
    ],
)
async def test_a_host_of_qpays_is_never_called(client: httpx2.AsyncClient, invoice: Make, url: str) -> None:
    made = await invoice(callback_url=url)
    answer = (await pay(client, made["invoice_id"]))["callback"]
    assert answer["status"] is None
    assert answer["body"].startswith("refused: ")
    assert [item["status"] for item in await recorded(client)] == [None]


@pytest.mark.parametrize(
    "url", ["not a url", "ftp://m/hook", "/hook", "http://", "http://a%2eb/", "http://[", "file:///etc/passwd"]
)
async def test_nonsense_is_never_called(client: httpx2.AsyncClient, invoice: Make, url: str) -> None:
    made = await invoice(callback_url=url)
    assert (await pay(client, made["invoice_id"]))["callback"]["status"] is None


async def test_a_dead_merchant(client: httpx2.AsyncClient, invoice: Make, unused_port: int) -> None:
    made = await invoice(callback_url=f"http://127.0.0.1:{unused_port}/hook")
    answer = (await pay(client, made["invoice_id"]))["callback"]
    assert answer["status"] is None
    assert "Connect" in answer["body"]


async def test_a_merchant_that_never_answers(
    client: httpx2.AsyncClient, invoice: Make, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "TIMEOUT_SECONDS", 0.05)
    made = await invoice(callback_url=silent)
    answer = (await pay(client, made["invoice_id"]))["callback"]
    assert answer["status"] is None
    assert "no answer" in answer["body"]


async def test_no_callback_when_not_wanted_or_dropped(
    client: httpx2.AsyncClient, invoice: Make, merchant: SimpleNamespace
) -> None:
    made = await invoice(callback_url=f"{merchant.url}/hook")
    assert (await pay(client, made["invoice_id"], callback=False))["callback"] is None
    await client.put("/_sim/faults", json={"callback": {"drop": True}})
    assert (await pay(client, made["invoice_id"]))["callback"] is None
    assert (await client.get("/_sim/faults")).json()["fired"] == {"callback.drop": 1}
    await client.put("/_sim/faults", json={"callback": {"times": 0}})
    assert (await pay(client, made["invoice_id"]))["callback"] is None
    assert merchant.seen == await recorded(client) == []


async def test_late_and_repeated_callbacks(
    client: httpx2.AsyncClient, invoice: Make, merchant: SimpleNamespace, world: SimpleNamespace
) -> None:
    await client.put("/_sim/faults", json={"callback": {"delay_seconds": 7.5, "times": 3}})
    made = await invoice(callback_url=f"{merchant.url}/hook")
    replies = iter(["SUCCESS", "again", "and again"])
    merchant.answer = lambda: web.Response(text=next(replies))
    assert (await pay(client, made["invoice_id"]))["callback"]["body"] == "SUCCESS"
    assert len(merchant.seen) == 3
    assert len(set(merchant.seen)) == 1
    assert world.slept == [7.5, 7.5, 7.5]


async def test_the_post_variant(client: httpx2.AsyncClient, invoice: Make, merchant: SimpleNamespace) -> None:
    await client.put("/_sim/faults", json={"callback": {"method": "POST"}})
    made = await invoice(callback_url=f"{merchant.url}/hook")
    payment = (await pay(client, made["invoice_id"]))["payment_id"]
    assert merchant.seen == [("POST", f"/hook?qpay_payment_id={payment}", f'{{"payment_id": "{payment}"}}')]


async def test_a_callback_may_come_before_the_payment_shows(
    client: httpx2.AsyncClient,
    invoice: Make,
    check: Check,
    merchant: SimpleNamespace,
    world: SimpleNamespace,
) -> None:
    await client.put("/_sim/faults", json={"callback": {"before_visible_seconds": 5}})
    made = await invoice(callback_url=f"{merchant.url}/hook")
    paid = await pay(client, made["invoice_id"])
    assert paid["callback"]["body"] == "SUCCESS"
    listing = {"object_type": "INVOICE", "object_id": "TEST_INVOICE"}
    seen = []
    for step in (0, 4.9, 0.1):
        world.now += step
        seen.append(
            (
                (await check(made["invoice_id"]))["count"],
                (await client.get(f"/v2/payment/{paid['payment_id']}")).status_code,
                (await client.post("/v2/payment/list", json=listing)).json()["count"],
                (await client.get(f"/v2/invoice/{made['invoice_id']}")).json()["invoice_status"],
            )
        )
    assert seen == [(0, 422, 0, "OPEN"), (0, 422, 0, "OPEN"), (1, 200, 1, "CLOSED")]


async def test_money_that_nobody_sees_yet_still_prevents_cancelling(client: httpx2.AsyncClient, invoice: Make) -> None:
    await client.put("/_sim/faults", json={"callback": {"before_visible_seconds": 5, "drop": True}})
    made = await invoice()
    await pay(client, made["invoice_id"])
    response = await client.delete(f"/v2/invoice/{made['invoice_id']}")
    assert response.json()["error"] == "INVOICE_PAID"


async def test_a_callback_goes_on_when_the_payer_leaves(
    client: httpx2.AsyncClient, invoice: Make, merchant: SimpleNamespace, simulator: Simulator
) -> None:
    made = await invoice(callback_url=f"{merchant.url}/hook")
    paying = asyncio.create_task(pay(client, made["invoice_id"]))
    while not simulator.callbacks._tasks:
        await asyncio.sleep(0)
    (call,) = simulator.callbacks._tasks
    paying.cancel()
    answer = await call
    assert (answer and answer.body, paying.cancelled()) == ("SUCCESS", True)
    assert [item["body"] for item in await recorded(client)] == ["SUCCESS"]


async def test_a_call_under_way_during_a_reset_stays_out_of_the_new_log(
    client: httpx2.AsyncClient, invoice: Make, merchant: SimpleNamespace
) -> None:
    made = await invoice(callback_url=f"{merchant.url}/hook")

    async def reset_and_answer() -> None:
        assert (await client.post("/_sim/reset")).status_code == 200

    merchant.before = reset_and_answer
    assert (await pay(client, made["invoice_id"]))["callback"]["body"] == "SUCCESS"
    assert await recorded(client) == []
